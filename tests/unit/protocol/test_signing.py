"""protocol/signing: what is signed, in which form, and which keys are read."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import signing

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
PUBLIC = KEY.public_key()
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
OPEN = serialization.NoEncryption()


def public_pem(key):
    return key.public_key().public_bytes(PEM, SPKI)


def test_a_signature_is_raw_r_and_s_over_the_prefix_a_nul_and_the_body():
    signature = signing.sign(KEY, b"body")
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    PUBLIC.verify(encode_dss_signature(r, s), b"twlo-mv-manifest-v1\x00body", ec.ECDSA(hashes.SHA256()))
    assert len(signature) == 64


def test_signing_twice_gives_the_same_bytes():
    """A bundle packed again from the same input is the same bundle, signed or not."""
    assert signing.sign(KEY, b"body") == signing.sign(KEY, b"body")


def test_verify_takes_only_this_key_this_body_and_this_signature():
    signature = signing.sign(KEY, b"body")
    other = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    assert signing.verify(PUBLIC, b"body", signature)
    assert not signing.verify(PUBLIC, b"bodY", signature)
    assert not signing.verify(other, b"body", signature)
    assert not signing.verify(PUBLIC, b"body", signature[:-1] + bytes([signature[-1] ^ 1]))


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, b"\x01" * 63, b"\x01" * 65])
def test_verify_says_no_to_what_is_not_even_formed_like_a_signature(signature):
    assert not signing.verify(PUBLIC, b"body", signature)


def test_a_key_id_is_the_first_eight_bytes_of_the_hash_of_two_zeros_and_the_point():
    point = signing.point(PUBLIC)
    assert signing.key_id(PUBLIC) == int.from_bytes(hashlib.sha256(b"\0\0" + point).digest()[:8], "big")
    assert signing.key_id(PUBLIC) == 12705849969663630899


def test_a_point_is_65_bytes_from_04_on_and_on_the_curve():
    point = signing.point(PUBLIC)
    assert len(point) == 65
    assert signing.is_point(point)
    compressed = PUBLIC.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    for wrong in (b"", compressed, point[:-1], point + b"\0", b"\x05" + point[1:], point[:-1] + bytes([point[-1] ^ 1])):
        assert not signing.is_point(wrong)


def test_r_and_s_lie_between_zero_and_the_order():
    one, last, order = (number.to_bytes(32) for number in (1, signing.ORDER - 1, signing.ORDER))
    assert signing.is_signature(one + last)
    for r, s in ((bytes(32), one), (one, bytes(32)), (order, one), (one, order)):
        assert not signing.is_signature(r + s)


@pytest.mark.parametrize("form", [PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_is_read_from_both_forms_that_openssl_writes(form):
    assert signing.load_private_key(KEY.private_bytes(PEM, form, OPEN)).private_numbers() == KEY.private_numbers()


def test_a_public_key_is_read_from_pem():
    assert signing.load_public_key(public_pem(KEY)) == PUBLIC


def test_a_private_key_with_a_passphrase_is_refused_in_words():
    pem = KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(Invalid, match="encrypted"):
        signing.load_private_key(pem)


@pytest.mark.parametrize(
    "other", [ec.derive_private_key(7, ec.SECP384R1()), ec.derive_private_key(7, ec.SECP256K1())], ids=["384", "k1"]
)
def test_keys_of_other_curves_are_refused(other):
    with pytest.raises(Invalid, match="P-256"):
        signing.load_private_key(other.private_bytes(PEM, PKCS8, OPEN))
    with pytest.raises(Invalid, match="P-256"):
        signing.load_public_key(public_pem(other))


def test_keys_of_other_kinds_are_refused():
    other = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    with pytest.raises(Invalid, match="P-256"):
        signing.load_private_key(other.private_bytes(PEM, PKCS8, OPEN))
    with pytest.raises(Invalid, match="P-256"):
        signing.load_public_key(public_pem(other))


def test_the_two_halves_of_a_pair_are_told_apart():
    """The commonest mistake gets a message that says what was given instead, and how to make the right one."""
    private = KEY.private_bytes(PEM, PKCS8, OPEN)
    with pytest.raises(Invalid, match="private key.*-pubout"):
        signing.load_public_key(private)
    with pytest.raises(Invalid, match="but a public key"):
        signing.load_private_key(public_pem(KEY))


@pytest.mark.parametrize("pem", [b"", b"\xff" * 40, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_key_is_refused_and_never_quoted(pem):
    for load in (signing.load_private_key, signing.load_public_key):
        with pytest.raises(Invalid, match="not a (private|public) key in PEM") as refused:
            load(pem)
        assert "AAAA" not in refused.value.detail


@given(st.integers(1, signing.ORDER - 1), st.integers(0, 519), st.sampled_from(["none", "bit", "x", "y"]))
def test_the_library_agrees_on_what_is_a_point(number, bit, change):
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    point = signing.point(key)
    x, y = int.from_bytes(point[1:33]), int.from_bytes(point[33:])
    field = 2**256 - 2**224 + 2**192 + 2**96 - 1
    match change:
        case "bit":
            point = (int.from_bytes(point) ^ 1 << bit).to_bytes(65)
        case "x":  # the same point, named by a number outside the field
            point = b"\x04" + min(x + field, 2**256 - 1).to_bytes(32) + y.to_bytes(32)
        case "y":
            point = b"\x04" + x.to_bytes(32) + (field - y).to_bytes(32)
        case _:
            pass

    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        assert not signing.is_point(point)
    else:
        assert signing.is_point(point) == (point[0] == 4)
