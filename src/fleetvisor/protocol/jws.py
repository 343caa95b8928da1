"""Compact JSON Web Signatures by a device's P-256 key: ES256 only, read strictly, verified.

Pure. Our own because the rules are narrower than a library's: the algorithm is pinned, ``crit`` is refused, times are
judged with the skew of clocks that have no battery, and a wrong clock is told from a wrong signature. Deliberately
knows no device: whose key it is, the caller says. Spec: RFC 7515, RFC 7518 section 3.4, RFC 7519.
"""

import contextlib
import hashlib
import re
from base64 import urlsafe_b64decode
from binascii import a2b_base64
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.errors import ClockSkew, Invalid, Unauthenticated
from fleetvisor.protocol.signing import POINT_BYTES, SIGNATURE_BYTES, is_point, is_signature, load_public_key, point

CHARS_MAX: Final = 4096
SKEW_S: Final = 300
LIFETIME_S_MAX: Final = 3600

_PEM: Final = re.compile(
    r"-----BEGIN PUBLIC KEY-----\s++([A-Za-z0-9+/]{64})\s++([A-Za-z0-9+/]{58}==)\s++-----END PUBLIC KEY-----"
)
_SPKI: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""What stands before the point in a SubjectPublicKeyInfo of P-256 (RFC 5480)."""
_BASE64: Final = re.compile(r"([A-Za-z0-9+/_-]{87})=?")
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_HALF: Final = SIGNATURE_BYTES // 2
_Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
# What names no device is verified against the curve's own generator, so that it costs the same. It proves nothing.
_NOBODY: Final = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


class _Header(msgspec.Struct, frozen=True):
    alg: str
    crit: object = msgspec.UNSET
    b64: bool = True


class Claims(msgspec.Struct, frozen=True):
    """What a token claims; times are seconds since the epoch."""

    iss: str | None = None
    sub: str | None = None
    aud: str | tuple[str, ...] | None = None
    iat: _Time | None = None
    exp: _Time | None = None
    nbf: _Time | None = None


@dataclass(frozen=True, slots=True)
class Jws:
    """A token that was read, and not yet verified."""

    claims: Claims
    signed: bytes
    signature: bytes


_headers: Final = msgspec.json.Decoder(_Header)
_claims: Final = msgspec.json.Decoder(Claims)


def parse(text: str) -> Jws:
    """Read a compact JWS. Raises ``Unauthenticated`` with what is wrong about its form."""
    if len(text) > CHARS_MAX:
        raise Unauthenticated(f"The token has more than {CHARS_MAX} characters.")
    parts = text.split(".")
    if len(parts) != 3:
        raise Unauthenticated("The token is no JWT: it has not three parts.")
    try:
        header = _headers.decode(_decoded(parts[0]))
        claims = _claims.decode(_decoded(parts[1]))
        signature = _decoded(parts[2])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Unauthenticated(f"The token cannot be read: {str(error).splitlines()[0]}") from None
    if header.alg != "ES256":
        raise Unauthenticated("The token's alg must be ES256.")
    if header.crit is not msgspec.UNSET or not header.b64:
        raise Unauthenticated("The token's header has crit or b64: no extension is understood here.")
    if not is_signature(signature):
        raise Unauthenticated("The token's signature must be 64 bytes: r and s.")
    return Jws(claims, f"{parts[0]}.{parts[1]}".encode("ascii"), signature)


def check_audience(claims: Claims, audiences: tuple[str, ...]) -> None:
    """Demand that the token is for this server. Raises ``Unauthenticated``."""
    named = (claims.aud,) if isinstance(claims.aud, str) else claims.aud or ()
    if not set(named) & set(audiences):
        raise Unauthenticated(f"The token's aud must be {' or '.join(audiences)}.")


def check_issued(claims: Claims, now: Millis) -> None:
    """Demand that the token was issued about now, by the device's clock. Raises ``ClockSkew``, ``Unauthenticated``."""
    if claims.iat is None:
        raise Unauthenticated("The token has no iat.")
    if abs(claims.iat - now // 1000) > SKEW_S:
        raise ClockSkew(f"The token was issued at {claims.iat}, more than {SKEW_S} s away from the server's time.")


def check_times(claims: Claims, now: Millis) -> Millis:
    """Demand a token that is in force and lives an hour at most; give when it ends, with the skew allowed.

    Raises ``ClockSkew``, ``Unauthenticated``.
    """
    if claims.iat is None or claims.exp is None:
        raise Unauthenticated("The token must have iat and exp.")
    if not 0 < claims.exp - claims.iat <= LIFETIME_S_MAX:
        raise Unauthenticated(f"The token must end after it begins, and within {LIFETIME_S_MAX} s.")
    now_s = now // 1000
    if max(claims.iat, claims.nbf or 0) > now_s + SKEW_S:
        raise ClockSkew(f"The token begins more than {SKEW_S} s after the server's time.")
    if claims.exp + SKEW_S <= now_s:
        raise ClockSkew(f"The token ended more than {SKEW_S} s before the server's time.")
    return Millis((claims.exp + SKEW_S) * 1000)


def is_signed_by(jws: Jws, points: tuple[bytes, ...]) -> bool:
    """Return whether one of the keys (uncompressed points) signed the token.

    It takes one verification for each key until one fits. Without a key it takes one, too, so that its time does not
    tell whether there is a key at all.
    """
    der = encode_dss_signature(int.from_bytes(jws.signature[:_HALF]), int.from_bytes(jws.signature[_HALF:]))
    if not points:
        _verifies(_NOBODY, der, jws.signed)
        return False
    return any(_verifies(candidate, der, jws.signed) for candidate in points)


def _verifies(candidate: bytes, der: bytes, signed: bytes) -> bool:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), candidate)
    try:
        key.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _decoded(part: str) -> bytes:
    if _PART.fullmatch(part) is None:
        raise ValueError("its parts must be base64url without padding")
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def parse_public_key(text: str) -> bytes:
    """Return the uncompressed point of a P-256 public key: PEM, or the 65 bytes as base64, base64url or hex.

    Raises ``Invalid``.
    """
    if (found := parse_common_key(text)) is not None:
        return found
    if text.lstrip().startswith("-----BEGIN"):
        return point(load_public_key(text.encode("utf-8", "replace")))
    for decode in (bytes.fromhex, _base64):  # both skip blanks, also within
        with contextlib.suppress(ValueError):
            if is_point(found := decode(text.strip())):
                return found
    raise Invalid("The public key must be a P-256 key: PEM, or its 65-byte uncompressed point as base64 or hex.")


def parse_common_key(text: str) -> bytes | None:
    """Return the point of a key in one of the forms that tools write by default, or ``None``.

    A few microseconds; the library that reads every form of PEM takes ten times longer.
    """
    text = text.strip()
    found = b""
    if key := _BASE64.fullmatch(text):
        found = a2b_base64(key[1].replace("-", "+").replace("_", "/") + "=")
    elif len(text) == 2 * POINT_BYTES:
        with contextlib.suppress(ValueError):
            found = bytes.fromhex(text)
    elif pem := _PEM.fullmatch(text):
        found = a2b_base64(pem[1] + pem[2])
        found = found[len(_SPKI) :] if found.startswith(_SPKI) else b""
    return found if is_point(found) else None


def _base64(text: str) -> bytes:
    raw = "".join(text.split()).rstrip("=").replace("+", "-").replace("/", "_")
    return urlsafe_b64decode(raw + "=" * (-len(raw) % 4))


def fingerprint(key_point: bytes) -> str:
    """Return what names a key: the SHA-256 of its uncompressed point, in lower-case hex."""
    return hashlib.sha256(key_point).hexdigest()
