"""Conditional and partial requests: entity tags and one byte range.

Pure functions. Deliberately no dates (``If-Modified-Since``): everything that we serve conditionally has an entity
tag. Several ranges in one request are answered with the whole, as RFC 9110 allows. Spec: RFC 9110, sections 8.8.3,
13.1 and 14.
"""

import re
from typing import Final, NamedTuple

from fleetvisor.ground.errors import RangeNotSatisfiable

# Every repetition is possessive (`*+`, `?+`): two neighbours that match the same blanks get no second try.
_TAG: Final = re.compile(rb'[ \t,]*+(?:(W/)?+"([\x21\x23-\x7e\x80-\xff]*+)"[ \t]*+)?+(?:,|\Z)')
_RANGE: Final = re.compile(rb"[ \t]*+bytes[ \t]*+=[ \t]*+(\d*+)[ \t]*+-[ \t]*+(\d*+)[ \t]*+", re.IGNORECASE)
_DIGITS_MAX: Final = 18


class Range(NamedTuple):
    """Bytes from ``start`` up to ``end`` (not included)."""

    start: int
    end: int


def matches(if_none_match: bytes | None, etag: bytes) -> bool:
    """Return whether ``If-None-Match`` names ``etag`` (with its quotes): weakly, one, a list, or ``*``.

    What is no such list matches nothing: the answer is then whole, never wrongly empty.
    """
    if if_none_match is None:
        return False
    if if_none_match == etag:
        return True
    if if_none_match.strip() == b"*":
        return True
    wanted = _opaque(etag)
    found = False
    position = 0
    while position < len(if_none_match):
        tag = _TAG.match(if_none_match, position)
        if tag is None:
            return False
        found = found or tag.group(2) == wanted
        position = tag.end()
    return found


def parse_range(header: bytes | None, size: int) -> Range | None:
    """Return the one range that ``Range`` asks of ``size`` bytes; ``None`` to answer with the whole.

    Another unit, several ranges and what is no range are ignored, as the RFC says. Raises
    ``RangeNotSatisfiable`` for one that lies outside.
    """
    if header is None:
        return None
    found = _RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        wanted = _number(last)
        if wanted == 0 or size == 0:
            raise RangeNotSatisfiable(f"The content has {size} bytes.")
        return Range(max(0, size - wanted), size)
    start = _number(first)
    end = _number(last) + 1 if last else size
    if end <= start and last:
        return None
    if start >= size:
        raise RangeNotSatisfiable(f"The content has {size} bytes.")
    return Range(start, min(end, size))


def range_applies(if_range: bytes | None, etag: bytes) -> bool:
    """Return whether ``If-Range`` lets a range be served: absent, or the same tag, compared strongly."""
    if if_range is None:
        return True
    return if_range.strip() == etag and not etag.startswith(b"W/")


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")[1:-1]


def _number(digits: bytes) -> int:
    return int(digits) if len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX
