"""P-256 keys and the signature of a manifest: making, checking, naming, reading from PEM.

Signs ``twlo-mv-manifest-v1``, a NUL, and the manifest's ``body`` bytes, with ECDSA over SHA-256, as raw ``r || s``
of 64 bytes. A key's id is the first 8 bytes, big endian, of SHA-256 over two zero bytes and the uncompressed point.

Deliberately decides nothing about trust: whose signature counts is the caller's rule. Never writes a key anywhere.
Spec: the Microvisor API reference, section 6.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from fleetvisor.ground.errors import Invalid

PREFIX: Final = b"twlo-mv-manifest-v1\0"
POINT_BYTES: Final = 65
SIGNATURE_BYTES: Final = 64
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_FIELD: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_HALF: Final = SIGNATURE_BYTES // 2
_UNCOMPRESSED: Final = 0x04


def is_point(data: bytes) -> bool:
    """Return whether ``data`` is a point of P-256 in the uncompressed form: 65 bytes, first ``04``, on the curve.

    The curve's equation is asked here, because the library takes twenty times longer to make a key of the point and a
    factory's file holds many. The point is public, and the curve has no other subgroup (SEC 2, section 2.4.2).
    """
    if len(data) != POINT_BYTES or data[0] != _UNCOMPRESSED:
        return False
    x, y = int.from_bytes(data[1:33]), int.from_bytes(data[33:])
    return x < _FIELD and y < _FIELD and (y * y - (x * x - 3) * x - _B) % _FIELD == 0


def is_signature(data: bytes) -> bool:
    """Return whether ``data`` has a signature's form: 64 bytes, ``0 < r < n`` and ``0 < s < n``. Proves nothing."""
    if len(data) != SIGNATURE_BYTES:
        return False
    return all(0 < int.from_bytes(half) < ORDER for half in (data[:_HALF], data[_HALF:]))


def point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the uncompressed point of ``key``: 65 bytes, as manifests hold debug keys."""
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def key_id(key: ec.EllipticCurvePublicKey) -> int:
    """Return the 64-bit id by which a manifest names its signer."""
    return int.from_bytes(hashlib.sha256(b"\0\0" + point(key)).digest()[:8])


def sign(key: ec.EllipticCurvePrivateKey, body: bytes) -> bytes:
    """Sign a manifest's ``body``: 64 bytes, the same each time (RFC 6979)."""
    der = key.sign(PREFIX + body, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    return r.to_bytes(_HALF) + s.to_bytes(_HALF)


def verify(key: ec.EllipticCurvePublicKey, body: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is ``key``'s over the manifest's ``body``."""
    if not is_signature(signature):
        return False
    der = encode_dss_signature(int.from_bytes(signature[:_HALF]), int.from_bytes(signature[_HALF:]))
    try:
        key.verify(der, PREFIX + body, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted P-256 private key from PEM (PKCS #8 or SEC 1). Raises ``Invalid``."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise Invalid("The key is encrypted: give one without a passphrase.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid(f"This is not a private key in PEM{_what_else(pem)}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("The key is of another kind: only NIST P-256 (prime256v1) keys are used here.")
    return key


def load_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read a P-256 public key from PEM (SubjectPublicKeyInfo). Raises ``Invalid``."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid(f"This is not a public key in PEM{_what_else(pem)}.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("The key is of another kind: only NIST P-256 (prime256v1) keys are used here.")
    return key


def _what_else(pem: bytes) -> str:
    """Say what ``pem`` seems to be instead, since the two halves of a key pair are easily confused."""
    if b"PRIVATE KEY-----" in pem:
        return ", but a private key, or a damaged one (its public half: openssl ec -in KEY.pem -pubout)"
    if b"PUBLIC KEY-----" in pem:
        return ", but a public key, or a damaged one"
    if b"-----BEGIN CERTIFICATE" in pem:
        return ", but a certificate"
    return ""
