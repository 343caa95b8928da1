"""A request as the edges read it: path, query, form and body, each within its bound and in valid UTF-8.

Deliberately thin: no routing, no cookies, no sessions. ASGI in; ``ground/errors`` problems out. NUL, lone surrogates
and invalid UTF-8 anywhere are ``Invalid``, because one of the two database engines refuses them.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Invalid, TooLarge, Unavailable, UnsupportedMediaType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Form = dict[str, list[str]]

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 256


class Disconnected(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


class Request:
    """One HTTP request. ``path`` is percent-decoded once; header names are lower case."""

    __slots__ = ("_raw_headers", "_receive", "_scope", "clock", "method", "path", "request_id")

    def __init__(self, scope: Scope, receive: Receive, *, clock: Clock, request_id: str) -> None:
        """Read the request line. Raises ``Invalid`` for a path that is not UTF-8."""
        self._scope = scope
        self._receive = receive
        self._raw_headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.clock = clock
        self.method: str = scope["method"]
        self.request_id = request_id
        path: str = scope["path"]
        if not path.isascii() or "%" in path or "\0" in path:
            path = decode(unquote_to_bytes(raw_path(scope)), "The path")
        self.path = path

    @property
    def target(self) -> str:
        """Give the path as it stands in messages."""
        return self.path

    @property
    def receive(self) -> Receive:
        """Give ASGI's receive, for who streams the body."""
        return self._receive

    def header(self, name: bytes) -> str | None:
        """Give the first header of this lower-case name."""
        for key, value in self._raw_headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def headers(self, name: bytes) -> list[str]:
        """Give every header of this lower-case name, in order."""
        return [value.decode("latin-1") for key, value in self._raw_headers if key == name]

    def query(self) -> Form:
        """Give the query's parameters. Raises ``Invalid``."""
        return parse_form(self._scope["query_string"], "The query") if self._scope["query_string"] else {}

    @property
    def content_type(self) -> str | None:
        """Give the media type of the body, lower case, without its parameters."""
        value = self.header(b"content-type")
        return None if value is None else value.split(";", 1)[0].strip().lower()

    async def body(self, bytes_max: int, time_s: float) -> bytes:
        """Read the body. Raises ``TooLarge``, ``Unavailable`` (too slow), ``Disconnected``."""
        told = self.header(b"content-length")
        if told is not None and told.isdigit() and int(told) > bytes_max:
            raise TooLarge(f"The body has {told} bytes; {bytes_max} are the most.")
        if told == "0" or (told is None and self.header(b"transfer-encoding") is None):
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            async with self.clock.timeout(time_s):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    part = message.get("body", b"")
                    size += len(part)
                    if size > bytes_max:
                        raise TooLarge(f"The body is larger than {bytes_max} bytes.")
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Unavailable(f"The body did not arrive within {time_s:g} seconds.") from None

    async def form(self, bytes_max: int, time_s: float) -> Form:
        """Read a form body. Raises as ``body`` does, ``UnsupportedMediaType`` and ``Invalid``."""
        body = await self.body(bytes_max, time_s)
        if not body:
            return {}
        if self.content_type != _FORM_TYPE:
            raise UnsupportedMediaType(f"Send the parameters as {_FORM_TYPE}.")
        return parse_form(body, "The form")


def raw_path(scope: Scope) -> bytes:
    """Give the path as it came, percent-encoded, without the query."""
    raw: bytes | None = scope.get("raw_path")
    if raw:
        return raw.split(b"?", 1)[0]
    path: str = scope["path"]
    return path.encode("utf-8", "surrogateescape").replace(b"%", b"%25")


def decode(raw: bytes, what: str) -> str:
    """Decode UTF-8 without NUL. Raises ``Invalid`` that names ``what``."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"{what} is not valid UTF-8.") from None
    if "\0" in text:
        raise Invalid(f"{what} contains a NUL character.")
    return text


def parse_form(raw: bytes, what: str) -> Form:
    """Parse ``a=1&b=2``, each name with its values in order. Raises ``Invalid``."""
    found: Form = {}
    pairs = raw.split(b"&")
    if len(pairs) > _FIELDS_MAX:
        raise Invalid(f"{what} has {len(pairs)} parameters; {_FIELDS_MAX} are the most.")
    for pair in pairs:
        if not pair:
            continue
        name, _, value = pair.partition(b"=")
        key = decode(unquote_to_bytes(name.replace(b"+", b" ")), f"{what}: a parameter's name")
        found.setdefault(key, []).append(decode(unquote_to_bytes(value.replace(b"+", b" ")), f"{what}: {key!a}"))
    return found
