"""Reading credentials from the Authorization header: Basic for people's programs, Bearer for devices.

Pure functions. Schemes of another device protocol are read in its folder of ``channel``. Deliberately proves nothing:
``features/accounts`` and ``features/identity`` do. Spec: RFC 7617, RFC 6750; the Microvisor API reference, section 1.1.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Final, NamedTuple

from fleetvisor.ground.errors import Unauthenticated

BASIC_CHALLENGE: Final = b'Basic realm="Fleetvisor API", charset="UTF-8"'
BEARER_CHALLENGE: Final = b'Bearer realm="Fleetvisor device API"'


class NoCredentials(Unauthenticated):
    """Authentication Error - No credentials provided."""


class Basic(NamedTuple):
    """What HTTP Basic carries."""

    username: str
    password: str


def parse_basic(header: bytes | None) -> Basic:
    """Return user name and password. Raises ``NoCredentials`` (nothing, another scheme), ``Unauthenticated``."""
    encoded = of_scheme(header, b"basic", "Send HTTP Basic credentials.")
    try:
        text = b64decode(encoded, validate=True).decode("utf-8")
    except (Base64Error, ValueError) as error:
        raise Unauthenticated("The Authorization header is not base64 of UTF-8 text.") from error
    username, colon, password = text.partition(":")
    if not colon:
        raise Unauthenticated("The Authorization header has no colon between user name and password.")
    return Basic(username, password)


def parse_bearer(header: bytes | None) -> str:
    """Return the bearer token. Raises ``NoCredentials`` (nothing, another scheme), ``Unauthenticated``."""
    token = of_scheme(header, b"bearer", "Send the device token as Authorization: Bearer.")
    if not token.isascii():
        raise Unauthenticated("The bearer token is not ASCII.")
    return token.decode("ascii")


def of_scheme(header: bytes | None, scheme: bytes, detail: str) -> bytes:
    """Return what a header of a scheme (in lower case) carries. Raises ``NoCredentials`` with ``detail``."""
    if header is None:
        raise NoCredentials(detail)
    name, _, rest = header.strip().partition(b" ")
    credentials = rest.strip()
    if name.lower() != scheme or not credentials:
        raise NoCredentials(detail)
    return credentials
