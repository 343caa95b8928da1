"""The paging envelope and its tokens: a list's identity, a direction and a sort key, as base64 of JSON.

A token is a place, not a permission: it is checked against the list it is used on, and the account's own rows are
all that a query ever sees. Pure. Spec: the API reference, section 1.3.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from fleetvisor.api.forms import find_text
from fleetvisor.ground.errors import Invalid, InvalidPageToken
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import is_text
from fleetvisor.ground.pages import Cursor, Page, PageRequest
from fleetvisor.web.requests import Fields

_TOKEN_CHARS_MAX: Final = 2048
_INTEGER_MAX: Final = 2**62
_NUMBER_MAX: Final = 2**31 - 1
_DIGITS_MAX: Final = 4000


class Asked(NamedTuple):
    """What a request asks of a list: the page, its index (the client's own count), and the token it came with."""

    request: PageRequest
    number: int
    token: str | None


class ListName(NamedTuple):
    """A list's identity: its path, whose it is, its key in the answer, the types of its sort key, and its filter.

    The filter is a query string that begins with ``&``; a place in the list is one under the same filter only.
    """

    path: str
    owner: str
    key: str
    kinds: tuple[type, ...]
    filter: str = ""


class Meta(msgspec.Struct):
    """The seven members that describe a page."""

    page: int
    page_size: int
    first_page_url: str
    previous_page_url: str | None
    url: str
    next_page_url: str | None
    key: str


def parse_paging(query: Fields, name: ListName, limits: Limits) -> Asked:
    """Read PageSize (clamped above), Page and PageToken. Raises ``Invalid``, ``InvalidPageToken``."""
    size = _number(query, "PageSize", limits.page_size_default)
    if size < 1:
        raise Invalid("PageSize must be a number from 1 to 1000.")
    number = _number(query, "Page", 0)
    token = find_text(query, "PageToken")
    cursor = _parse_token(token, name) if token else None
    return Asked(PageRequest(min(size, limits.page_size_max), cursor), number, token or None)


def envelope(
    page: Page[Any],
    shapes: Sequence[object],
    asked: Asked,
    name: ListName,
    base: str,
    warnings: Sequence[str] | None = None,
) -> dict[str, object]:
    """Render a page: the items under the list's key, ``meta`` with absolute URLs, and ``warnings`` if given."""
    size = asked.request.size
    start = f"{base}{name.path}?PageSize={size}{name.filter}&Page="
    return {
        name.key: shapes,
        "meta": Meta(
            page=asked.number,
            page_size=size,
            first_page_url=f"{start}0",
            previous_page_url=_url(start, max(asked.number - 1, 0), page.previous, name),
            url=f"{start}{asked.number}" + (f"&PageToken={asked.token}" if asked.token else ""),
            next_page_url=_url(start, asked.number + 1, page.next, name),
            key=name.key,
        ),
        **({} if warnings is None else {"warnings": warnings}),
    }


def _url(start: str, index: int, cursor: Cursor | None, name: ListName) -> str | None:
    return None if cursor is None else f"{start}{index}&PageToken={render_token(cursor, name)}"


def render_token(cursor: Cursor, name: ListName) -> str:
    """Return the token of a place in a list."""
    raw = msgspec.json.encode([_identity(name), name.owner, cursor.forward, *cursor.key])
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _identity(name: ListName) -> str:
    """Return what a token says of its list: a filter by its digest, because a long one would not fit."""
    return f"{name.path}?{sha256(name.filter.encode()).hexdigest()[:32]}" if name.filter else name.path


def _parse_token(token: str, name: ListName) -> Cursor:
    if len(token) > _TOKEN_CHARS_MAX or not token.isascii():
        raise InvalidPageToken("This PageToken was not made by this server.")
    try:
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        found = msgspec.json.decode(raw, type=list[str | bool | int])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InvalidPageToken("This PageToken was not made by this server.") from None
    if len(found) != 3 + len(name.kinds) or found[0] != _identity(name) or found[1] != name.owner:
        raise InvalidPageToken("This PageToken belongs to another list.")
    forward, key = found[2], found[3:]
    if not isinstance(forward, bool) or [type(part) for part in key] != list(name.kinds):
        raise InvalidPageToken("This PageToken was not made by this server.")
    for part in key:
        if isinstance(part, str) and not is_text(part):
            raise InvalidPageToken("This PageToken was not made by this server.")
        if isinstance(part, int) and abs(part) > _INTEGER_MAX:
            raise InvalidPageToken("This PageToken was not made by this server.")
    cursor = Cursor(tuple(key), forward)
    if render_token(cursor, name) != token:  # base64 and JSON have other spellings of the same; we make one
        raise InvalidPageToken("This PageToken was not made by this server.")
    return cursor


def _number(query: Fields, name: str, default: int) -> int:
    text = find_text(query, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"{name} must be a whole number, not below 0.")
    return min(int(text[:_DIGITS_MAX]), _NUMBER_MAX)
