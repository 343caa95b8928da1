"""The local CA is what strict verifiers demand of one."""

from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleetvisor.ground.clock import Millis
from fleetvisor.pki.ca import load_authority, make_authority, render_key

NOW = Millis(1_790_000_000_000)


def test_the_ca_lasts_twenty_years_signs_servers_only_and_names_no_constraints():
    """Mbed TLS refuses to parse name constraints, and a later public name must stay possible."""
    certificate = make_authority(NOW).certificate
    years = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days / 365
    assert 19.9 < years < 20.1
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.NameConstraints)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_a_ca_is_read_back_from_one_text():
    made = make_authority(NOW)
    for text in (made.pem + render_key(made.key), render_key(made.key) + made.pem):
        found = load_authority(text)
        assert found.pem == made.pem
        assert found.fingerprint == made.fingerprint


def test_two_cas_have_different_keys_and_fingerprints():
    first, second = make_authority(NOW), make_authority(NOW)
    assert first.fingerprint != second.fingerprint
    assert len(first.fingerprint.split(":")) == 32


def test_what_is_not_a_ca_is_refused():
    first, second = make_authority(NOW), make_authority(NOW)
    for text in (b"", b"nonsense", first.pem, render_key(first.key), first.pem + render_key(second.key)):
        with pytest.raises(ValueError):
            load_authority(text)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of serial numbers
def test_a_ca_with_any_byte_changed_is_refused_or_the_same():
    """Text around the two blocks may change; what is in them may not: devices know this CA and no other."""
    made = make_authority(NOW)
    whole = made.pem + render_key(made.key)
    chance = Random(7)
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 5))):
            damaged[chance.randrange(len(whole))] = chance.choice(b"AQgz09+/=\n-")
        try:
            found = load_authority(
                bytes(damaged[: chance.choice((len(whole), len(whole), chance.randrange(len(whole))))])
            )
        except ValueError:
            continue
        assert (found.pem, found.key.private_numbers()) == (made.pem, made.key.private_numbers())
