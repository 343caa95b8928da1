"""Which certificate is served, and when there is a new one."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from fleetvisor.pki.ca import make_authority, moment
from fleetvisor.pki.serving import issue
from fleetvisor.reality import RealClock
from fleetvisor.server import certificates
from fleetvisor.server.certificates import GivenCertificate, OwnCertificate
from fleetvisor.server.files import DataDirectory, StartFault
from fleetvisor.server.tls_trial import try_held

pytestmark = pytest.mark.slow

NAMES = ("localhost", "127.0.0.1")


class LaterClock(RealClock):
    days = 0

    def now(self):
        return super().now() + self.days * 86_400_000


def test_our_own_is_new_at_start_and_when_it_was_renewed(tmp_path):
    data, clock = DataDirectory(tmp_path / "fleet"), LaterClock()
    certificate = OwnCertificate(data, data.authority(clock), NAMES, clock)
    assert certificate.refresh()
    assert not certificate.refresh()
    assert 364 < certificate.days_left() <= 365
    clock.days = 250
    assert certificate.refresh()
    assert 364 < certificate.days_left() <= 365
    assert not certificate.refresh()


def test_our_own_is_new_to_a_process_that_finds_it_good(tmp_path):
    data, clock = DataDirectory(tmp_path / "fleet"), RealClock()
    authority = data.authority(clock)
    OwnCertificate(data, authority, NAMES, clock).refresh()
    assert OwnCertificate(data, authority, NAMES, clock).refresh()


@pytest.fixture
def given(tmp_path):
    """The files of an operator, and the function that writes them anew."""
    authority = make_authority(RealClock().now())
    cert, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"

    def write():
        made = issue(authority, NAMES, RealClock().now())
        cert.write_bytes(made.pem + authority.pem)
        key.write_bytes(made.key_pem)

    write()
    return cert, key, write


def test_the_operators_is_taken_anew_when_its_files_change(given):
    cert, key, write = given
    certificate = GivenCertificate(cert, key, RealClock())
    assert certificate.refresh()
    assert not certificate.refresh()
    write()
    assert certificate.refresh()
    assert [path.read_bytes() for path in certificate.files] == [cert.read_bytes(), key.read_bytes()]
    assert certificate.days_left() > 364


def test_files_that_cannot_be_served_with_are_refused(given, tmp_path):
    cert, key, _ = given
    other = tmp_path / "other.pem"
    other.write_bytes(issue(make_authority(RealClock().now()), NAMES, RealClock().now()).key_pem)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    for *files, why in (
        (cert, other, "--tls-key .* is not the key of the first certificate"),
        (key, cert, "--tls-cert .* holds no certificate"),
        (cert, cert, "--tls-key .* holds no private key"),
        (cert, tmp_path / "absent", "--tls-key .* cannot be read"),
        (tmp_path / "absent", key, "--tls-cert .* cannot be read"),
        (cert, encrypted, "--tls-key .* is encrypted"),
    ):
        with pytest.raises(StartFault, match=why):
            GivenCertificate(*files, RealClock()).refresh()


@pytest.mark.parametrize(("days", "why"), [(400, "ran out on"), (-2, "begins only on")])
def test_a_certificate_that_is_not_valid_now_is_refused_and_one_that_is_served_goes_on(given, days, why):
    cert, key, _ = given
    clock = LaterClock()
    served = GivenCertificate(cert, key, clock)
    assert served.refresh()
    clock.days = days
    assert not served.refresh()
    with pytest.raises(StartFault, match=f"--tls-cert .* {why}"):
        GivenCertificate(cert, key, clock).refresh()


def of_its_own(key, digest):
    """A certificate that a key signed for itself, and the key: both PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet")])
    now = moment(RealClock().now())
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
    )
    encoding, format_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    certificate = builder.sign(key, digest).public_bytes(encoding)
    return certificate, key.private_bytes(encoding, format_, serialization.NoEncryption())


SHA = hashes.SHA256()
SERVED = {
    "P-256": lambda: of_its_own(ec.generate_private_key(ec.SECP256R1()), SHA),
    "P-384": lambda: of_its_own(ec.generate_private_key(ec.SECP384R1()), SHA),
    "RSA 2048": lambda: of_its_own(rsa.generate_private_key(65537, 2048), SHA),
    "Ed25519": lambda: of_its_own(ed25519.Ed25519PrivateKey.generate(), None),
}
NOT_SERVED = {
    "P-521": lambda: of_its_own(ec.generate_private_key(ec.SECP521R1()), SHA),
    "secp256k1": lambda: of_its_own(ec.generate_private_key(ec.SECP256K1()), SHA),
    "Ed448": lambda: of_its_own(ed448.Ed448PrivateKey.generate(), None),
    "RSA 1024": lambda: of_its_own(rsa.generate_private_key(65537, 1024), SHA),  # noqa: S505
}


def write_pair(folder, pair):
    files = folder / "cert.pem", folder / "key.pem"
    for path, content in zip(files, pair, strict=True):
        path.write_bytes(content)
    return files


@pytest.mark.parametrize("kind", SERVED)
def test_keys_that_the_serving_library_takes_are_taken(tmp_path, kind):
    assert GivenCertificate(*write_pair(tmp_path, SERVED[kind]()), RealClock()).refresh()


@pytest.mark.parametrize("kind", NOT_SERVED)
def test_keys_that_only_another_library_takes_are_refused_in_words(tmp_path, kind):
    with pytest.raises(StartFault, match=r"--tls-key .* Served are ECDSA keys on P-256"):
        GivenCertificate(*write_pair(tmp_path, NOT_SERVED[kind]()), RealClock()).refresh()


def test_a_byte_order_mark_is_served_or_refused_in_words(tmp_path):
    cert, key = SERVED["P-256"]()
    with pytest.raises(StartFault, match="--tls-"):
        GivenCertificate(*write_pair(tmp_path, (b"\xef\xbb\xbf" + cert, b"\xef\xbb\xbf" + key)), RealClock()).refresh()


def test_what_is_served_stays_when_the_files_become_unusable(given):
    cert, key, write = given
    certificate = GivenCertificate(cert, key, RealClock())
    assert certificate.refresh()
    before = cert.read_bytes(), key.read_bytes()
    bad = NOT_SERVED["P-521"]()
    cert.write_bytes(bad[0])
    key.write_bytes(bad[1])
    for _ in range(2):  # told of each time
        with pytest.raises(StartFault, match="Served are"):
            certificate.refresh()
    cert.write_bytes(before[0])
    key.write_bytes(before[1])
    assert not certificate.refresh(), "it is what is served"
    write()
    assert certificate.refresh()


def test_what_is_served_is_what_was_tried_whatever_the_files_hold_meanwhile(given, monkeypatch):
    """Somebody replaces the files while they are tried, and again before they are served."""
    cert, key, write = given
    good = cert.read_bytes(), key.read_bytes()
    tried = []

    def try_and_replace(held):
        bad = NOT_SERVED["P-521"]()
        cert.write_bytes(bad[0])
        key.write_bytes(bad[1])
        tried.append(tuple(path.read_bytes() for path in held.paths))
        return try_held(held)

    monkeypatch.setattr(certificates, "try_held", try_and_replace)  # lets the file change between its trial and its use
    certificate = GivenCertificate(cert, key, RealClock())
    assert certificate.refresh()
    assert tried == [good]
    assert tuple(path.read_bytes() for path in certificate.files) == good
    assert certificate.days_left() > 364
    cert.unlink()
    assert certificate.days_left() > 364
    with pytest.raises(StartFault, match="cannot be read"):
        certificate.refresh()
    assert tuple(path.read_bytes() for path in certificate.files) == good
    write()
    monkeypatch.undo()
    assert certificate.refresh()
    assert tuple(path.read_bytes() for path in certificate.files) != good


def test_a_ca_that_the_clock_made_invalid_is_told_of_while_the_server_runs(tmp_path):
    """It started in 1970, and then the clock was set: what it shows is refused by everybody, whatever is issued."""
    data, clock = DataDirectory(tmp_path / "fleet"), LaterClock()
    clock.days = -20_700
    certificate = OwnCertificate(data, data.authority(clock), NAMES, clock)
    assert certificate.refresh()
    clock.days = 0
    with pytest.raises(StartFault, match="not valid now: it ended on 19.*--new-ca"):
        certificate.refresh()


def test_our_own_that_was_changed_is_made_anew_before_it_is_served(tmp_path):
    data, clock = DataDirectory(tmp_path / "fleet"), RealClock()
    authority = data.authority(clock)
    path, issued = data.serving(authority, NAMES, clock)
    assert issued
    good = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + good)
    assert data.serving(authority, NAMES, clock) == (path, True)
    assert path.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    assert data.serving(authority, NAMES, clock) == (path, False)


def test_our_own_that_begins_only_later_is_made_anew(tmp_path):
    """The clock was wrong when it was made: no client takes it until then."""
    data, clock = DataDirectory(tmp_path / "fleet"), LaterClock()
    authority = data.authority(clock)
    clock.days = 3000
    OwnCertificate(data, authority, NAMES, clock).refresh()
    clock.days = 0
    certificate = OwnCertificate(data, authority, NAMES, clock)
    assert certificate.refresh()
    assert certificate.days_left() <= 365
