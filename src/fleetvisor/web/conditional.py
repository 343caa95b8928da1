"""Conditions and ranges: If-None-Match and Range, decided without IO. Spec: RFC 9110 sections 8.8, 13 and 14."""

import re
from typing import Final, NamedTuple

from fleetvisor.ground.errors import RangeNotSatisfiable

_TAG: Final = re.compile(r'\s*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*")
_DIGITS_MAX: Final = 18


def matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether ``If-None-Match`` names ``etag`` (with its quotes), by weak comparison; lists and ``*`` count.

    A header that is not well-formed matches nothing, so the whole answer is sent.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    place = 0
    found = False
    while place < len(if_none_match):
        tag = _TAG.match(if_none_match, place)
        if tag is None:
            return False
        found = found or tag[1] == etag
        place = tag.end()
    return found


class Range(NamedTuple):
    """The bytes from ``start`` up to ``end`` (not included)."""

    start: int
    end: int


def parse_range(header: str | None, size: int) -> Range | None:
    """Give the one range that a ``Range`` header asks of ``size`` bytes; ``None``: send the whole.

    A header of another unit, of several ranges or not well-formed is ignored, as the RFC allows. Raises
    ``RangeNotSatisfiable`` for a range that begins beyond the end.
    """
    if header is None:
        return None
    found = _RANGE.fullmatch(header)
    if found is None or max(len(found[1]), len(found[2])) > _DIGITS_MAX:
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiable(f"The content has {size} bytes.")
        return Range(max(0, size - int(last)), size)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise RangeNotSatisfiable(f"The content has {size} bytes.")
    return Range(start, min(int(last) + 1, size) if last else size)
