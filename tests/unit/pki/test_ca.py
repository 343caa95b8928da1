"""The local CA is what strict verifiers demand of one."""

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
