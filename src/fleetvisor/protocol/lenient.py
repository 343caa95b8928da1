"""JSON from devices whose text is not good JSON, read all the same: what is odd in a text becomes an escape.

Pure. Bytes that are no UTF-8, control characters, lone surrogates and a byte order mark are what boards really send:
they must not cost the state that stands beside them. Nothing here is about fields: ``protocol/ddi`` and
``protocol/reports`` say which of them may be odd.
"""

import json
import re
from typing import Any, Final, TypeVar, cast

import msgspec

from fleetvisor.ground.errors import Invalid

T = TypeVar("T")

_UNREADABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_BYTE_FROM: Final = 0xDC80
_BYTE_TO: Final = 0xDCFF
_BYTE_MAX: Final = 0xFF
_DIGITS_MAX: Final = 20


def parse(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Decode a body, or, if its text is not good JSON, what can be read of it. Raises ``Invalid``."""
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        fault = error
    return convert(read(raw, fault), decoder.type)


def read(raw: bytes, fault: Exception) -> Any:  # noqa: ANN401  (any JSON)
    """Return the JSON of a body, its texts readable. Raises ``Invalid`` with ``fault`` when it is no JSON at all."""
    try:
        text = raw.decode("utf-8-sig", "surrogateescape")
        return readable(json.loads(text, strict=False, parse_int=_integer))
    except (ValueError, RecursionError):
        raise Invalid(f"The body cannot be read: {fault}") from fault


def convert(value: Any, kind: type[T]) -> T:  # noqa: ANN401  (any JSON)
    """Return JSON that was read as a value of ``kind``. Raises ``Invalid`` naming the field."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Invalid(f"The body cannot be read: {error}") from error


def readable(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    """Escape in all text what is no character that can be shown; a tab stays."""
    match value:
        case str():
            return "".join(map(_escape, value)) if _UNREADABLE.search(value) else value
        case list():
            return [readable(each) for each in cast("list[Any]", value)]
        case dict():
            pairs = cast("dict[str, Any]", value).items()
            return {readable(key): readable(each) for key, each in pairs}
        case _:
            return value


def _escape(char: str) -> str:
    if not _UNREADABLE.match(char):
        return char
    code = ord(char)
    if _BYTE_FROM <= code <= _BYTE_TO:  # a byte that is no UTF-8, as surrogateescape marks it
        return f"\\x{code - _BYTE_FROM + 0x80:02x}"
    return f"\\u{code:04x}" if code > _BYTE_MAX else f"\\x{code:02x}"


def _integer(digits: str) -> int | float:
    """Return a number; one of very many digits, which Python refuses to read exactly, only about."""
    return int(digits) if len(digits) <= _DIGITS_MAX else float(digits)
