"""Credentials out of a header: parsed here, proven by the features. Pure.

Spec: RFC 7617 (Basic), RFC 6750 (Bearer), RFC 9110 section 11.
"""

import binascii
from base64 import b64decode
from typing import Final

from fleetvisor.ground.errors import Unauthenticated

BASIC_CHALLENGE: Final = b'Basic realm="fleetvisor", charset="UTF-8"'
BEARER_CHALLENGE: Final = b'Bearer realm="fleetvisor"'
_HEADER_CHARS_MAX: Final = 4096


def _credentials(header: str | None, scheme: str) -> str:
    if header is None:
        raise Unauthenticated("Authentication Error - No credentials provided")
    if len(header) > _HEADER_CHARS_MAX:
        raise Unauthenticated("The Authorization header is too long.")
    found, _, rest = header.partition(" ")
    if found.lower() != scheme:
        raise Unauthenticated(f"The Authorization header must use the {scheme.capitalize()} scheme.")
    return rest.strip()


def parse_basic(header: str | None) -> tuple[str, str]:
    """Give user name and password of an Authorization header. Raises ``Unauthenticated``."""
    encoded = _credentials(header, "basic")
    try:
        text = b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise Unauthenticated("The Basic credentials are not base64 of UTF-8 text.") from None
    username, colon, password = text.partition(":")
    if not colon or "\0" in text:
        raise Unauthenticated("The Basic credentials have no colon, or a NUL.")
    return username, password


def parse_bearer(header: str | None) -> str:
    """Give the token of an Authorization header. Raises ``Unauthenticated``."""
    token = _credentials(header, "bearer")
    if not token or not token.isascii() or not token.isprintable():
        raise Unauthenticated("The Bearer credentials are not a token.")
    return token
