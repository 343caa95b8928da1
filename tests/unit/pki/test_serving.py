"""The server's certificate: its names, when it is renewed, and that a strict verifier takes it."""

import contextlib
import ipaddress
import ssl
from random import Random

import pytest
from cryptography import x509

from fleetvisor.ground.clock import Millis
from fleetvisor.pki.ca import make_authority
from fleetvisor.pki.serving import SERVING_DAYS, Serving, days_left, is_as_issued, issue, must_renew
from fleetvisor.reality import RealClock

DAY = 86_400_000
NOW = RealClock().now()
NAMES = ("mv.example.com", "localhost", "127.0.0.1", "::1")


@pytest.fixture(scope="module")
def authority():
    return make_authority(NOW)


@pytest.fixture(scope="module")
def serving(authority):
    return issue(authority, NAMES, NOW)


@pytest.fixture
def files(authority, serving, tmp_path):
    """The CA, and the certificate with its key in one file, as a data directory has them."""
    ca, both = tmp_path / "ca.pem", tmp_path / "server.key"
    ca.write_bytes(authority.pem)
    both.write_bytes(serving.pem + serving.key_pem)
    return ca, both


def test_it_names_hosts_and_addresses_and_lasts_a_year(serving):
    certificate = x509.load_pem_x509_certificate(serving.pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mv.example.com", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert SERVING_DAYS - 1 < days_left(serving.pem, NOW) <= SERVING_DAYS


def test_it_is_kept_while_it_is_good(authority, serving):
    assert not must_renew(serving, authority, NAMES, NOW)
    assert not must_renew(serving, authority, tuple(reversed(NAMES)), NOW)


@pytest.mark.parametrize(("day", "renewed"), [(240, False), (245, True), (366, True)])
def test_it_is_renewed_when_under_a_third_is_left(authority, serving, day, renewed):
    assert must_renew(serving, authority, NAMES, Millis(NOW + day * DAY)) is renewed


def test_it_is_renewed_when_the_names_change(authority, serving):
    assert must_renew(serving, authority, NAMES[:-1], NOW)
    assert must_renew(serving, authority, (*NAMES, "other.example.com"), NOW)


def test_it_is_renewed_when_it_belongs_to_another_ca_or_key_or_is_damaged(authority, serving):
    assert must_renew(serving, make_authority(NOW), NAMES, NOW)
    other = issue(authority, NAMES, NOW)
    assert must_renew(Serving(serving.pem, other.key_pem), authority, NAMES, NOW)
    assert must_renew(Serving(b"", serving.key_pem), authority, NAMES, NOW)
    assert must_renew(Serving(serving.pem[:-40], serving.key_pem), authority, NAMES, NOW)


def test_a_long_name_fits(authority):
    """The common name holds 64 characters; names may be longer."""
    name = ".".join(["a" * 40] * 4)
    assert not must_renew(issue(authority, (name,), NOW), authority, (name,), NOW)


def test_pythons_strict_verification_takes_it(files):
    for name in ("mv.example.com", "localhost", "127.0.0.1"):
        client = ssl.create_default_context(cafile=files[0])
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        _shake_hands(files[1], client, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _shake_hands(files[1], ssl.create_default_context(cafile=files[0]), "other.example.com")


def _shake_hands(both, client, name):
    """Let a client and a server talk through memory until both are content."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both, both)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname=name), context.wrap_bio(up, down, server_side=True)]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].getpeercert()


def test_a_file_that_is_not_as_we_issue_it_is_told_apart(serving):
    """Also what is good to this library: the one that serves would end the process over a byte order mark."""
    whole = serving.pem + serving.key_pem
    assert is_as_issued(whole)
    for other in (b"\xef\xbb\xbf" + whole, serving.key_pem + serving.pem, whole + b"\n", serving.pem, b""):
        assert not is_as_issued(other)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of serial numbers
def test_whatever_byte_is_changed_it_is_judged(authority, serving):
    """A damaged file is no reason not to start: a new one is the cure."""
    whole = serving.pem + serving.key_pem
    chance = Random(7)
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 5))):
            damaged[chance.randrange(len(whole))] = chance.choice(b"AQgz09+/=\n-")
        must_renew(Serving(bytes(damaged), bytes(damaged)), authority, NAMES, NOW)
