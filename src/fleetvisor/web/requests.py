"""One HTTP request, read from ASGI with bounds on everything that it carries.

Deliberately not Starlette's Request: a poll must cost microseconds, and every byte that comes in must be valid
text (no NUL, no invalid UTF-8) before it comes near a database. Paths are decoded once, segment by segment, so a
``%2F`` stays inside its segment. Spec: the Microvisor API reference, section 1; RFC 9110.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Invalid, TooLarge, Unavailable, UnsupportedMediaType
from fleetvisor.web.values import parse_options

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fields = Mapping[str, tuple[str, ...]]

FORM: Final = "application/x-www-form-urlencoded"
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_FIELDS_MAX: Final = 1000
_DROPPED_BYTES_MAX: Final = 1 << 20
_DROPPED_S: Final = 1.0


class Disconnected(Exception):
    """The client went away before its request was whole, or sent a body that cannot be read to its end."""


class Request:
    """A request whose parts are read when they are asked for. ``scope`` and ``receive`` are ASGI's own.

    ``prove_again``, where an edge sets it, is awaited once the body is whole: a client may take long to send it, and
    what proved the client may have been taken back meanwhile.
    """

    __slots__ = ("_begun", "_clock", "_form", "method", "prove_again", "receive", "request_sid", "scope", "time_s")

    def __init__(
        self, scope: Scope, receive: Receive, *, request_sid: str = "", clock: Clock, time_s: float = 30.0
    ) -> None:
        """Take what ASGI gave; ``time_s`` is how long a body may take to arrive."""
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.request_sid = request_sid
        self.time_s = time_s
        self._clock = clock
        self._form: Fields | None = None
        self._begun = False
        self.prove_again: Callable[[], Awaitable[object]] | None = None

    @property
    def raw_path(self) -> bytes:
        """Return the path as it came, percent-encoded, without the query."""
        raw: bytes | None = self.scope.get("raw_path")
        return raw.partition(b"?")[0] if raw is not None else self.scope["path"].encode()

    def segments(self) -> tuple[str, ...]:
        """Return the path's segments, each decoded once; ``/`` is ``("",)``. Raises ``Invalid`` for what is no text."""
        raw = self.raw_path[1:]
        if b"%" not in raw and raw.isascii() and b"\0" not in raw:
            return tuple(raw.decode("ascii").split("/"))
        return tuple(_text(unquote_to_bytes(part), "The path") for part in raw.split(b"/"))

    def header(self, name: bytes) -> bytes | None:
        """Return a header's value by its lower-case name; a header that came twice is joined with a comma."""
        found = [value for key, value in self.scope["headers"] if key == name]
        return b", ".join(found) if found else None

    def query(self) -> Fields:
        """Return the query's parameters. Raises ``Invalid`` for what is no text."""
        raw: bytes = self.scope["query_string"]
        return parse_fields(raw, "The query") if raw else {}

    def content_length(self) -> int | None:
        """Return the length that the body is said to have; ``None`` when nothing is said. Raises ``Invalid``."""
        raw = self.header(b"content-length")
        if raw is None:
            return None
        if not raw.isdigit() or len(raw) > 18:
            raise Invalid("The Content-Length is not a number.")
        return int(raw)

    async def chunks(
        self, bytes_max: int, *, what: str = "The body", time_s: float | None = None
    ) -> AsyncIterator[bytes]:
        """Return the body piece by piece, at most ``bytes_max`` bytes of it in at most ``time_s`` seconds.

        Raises ``TooLarge`` (at once, when the length says so), ``Unavailable`` when the time is over,
        ``Disconnected``, and what ``prove_again`` raises.
        """
        length = self.content_length()
        if length is not None and length > bytes_max:
            raise _too_large(what, bytes_max)
        self._begun = True
        end = self._clock.monotonic() + (self.time_s if time_s is None else time_s)
        size = 0
        while True:
            try:
                async with self._clock.timeout(end - self._clock.monotonic()):
                    message = await self.receive()
            except TimeoutError as error:
                raise Unavailable(f"{what} did not arrive in time.", retry_after_s=1) from error
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > bytes_max:
                raise _too_large(what, bytes_max)
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                break
        if self.prove_again is not None:
            await self.prove_again()

    async def drop_rest(self) -> None:
        """Read the body of a request that was refused before it was read, and drop it: at most 1 MiB in a second.

        A connection that ends with bytes unread is reset, and its client may lose the answer that says why. A client
        that waits to be asked for its body (``Expect``) is not asked.
        """
        if self._begun or "headers" not in self.scope:  # a poll that is held has let them go
            return
        raw = self.header(b"content-length") or b""
        length = int(raw) if raw.isdigit() and len(raw) <= 18 else 0
        chunked = self.header(b"transfer-encoding") is not None
        if self.header(b"expect") is not None or not (chunked or 0 < length <= _DROPPED_BYTES_MAX):
            return
        size = 0
        try:
            async with self._clock.timeout(_DROPPED_S):
                while size <= _DROPPED_BYTES_MAX:
                    message = await self.receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):  # nor has the word that the client is gone
                        return
        except TimeoutError:
            return

    async def body(self, bytes_max: int) -> bytes:
        """Return the whole body. Raises as ``chunks`` does."""
        pieces = [chunk async for chunk in self.chunks(bytes_max)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def form(self, bytes_max: int) -> Fields:
        """Return the parameters of an urlencoded body; no body at all is no parameters. May be asked for again.

        Raises ``UnsupportedMediaType`` for a body of another type, ``Invalid`` for what is no text.
        """
        if self._form is None:
            self._form = self._parse_form(await self.body(bytes_max))
        return self._form

    def _parse_form(self, raw: bytes) -> Fields:
        if not raw:
            return {}
        media, options = parse_media_type(self.header(b"content-type"))
        if media != FORM or options.get("charset", "utf-8").lower() not in _CHARSETS:
            raise UnsupportedMediaType(f"Send the parameters as {FORM}.")
        return parse_fields(raw, "The form")


def parse_fields(raw: bytes, where: str) -> Fields:
    """Parse ``a=b&c=d`` into values by name, in order. Raises ``Invalid`` for what is no text."""
    pairs = raw.split(b"&")
    if len(pairs) > _FIELDS_MAX:
        raise Invalid(f"{where} has more than {_FIELDS_MAX} parameters.")
    fields: dict[str, list[str]] = {}
    for pair in pairs:
        if pair:
            name, _, value = pair.partition(b"=")
            key = _text(unquote_to_bytes(name.replace(b"+", b" ")), where)
            fields.setdefault(key, []).append(_text(unquote_to_bytes(value.replace(b"+", b" ")), where))
    return {name: tuple(values) for name, values in fields.items()}


def parse_media_type(raw: bytes | None) -> tuple[str, dict[str, str]]:
    """Parse a Content-Type into the lower-case type and its parameters; absent is ``""``."""
    media, options = parse_options(raw)
    return media.decode("latin-1"), {name.decode("latin-1"): value.decode("latin-1") for name, value in options.items()}


def _text(raw: bytes, where: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{where} is not valid UTF-8.") from error
    if "\0" in text:
        raise Invalid(f"{where} must not contain NUL.")
    return text


def _too_large(what: str, bytes_max: int) -> TooLarge:
    return TooLarge(f"{what} is larger than {bytes_max} bytes.")
