"""Durations as people write them: ``90s``, ``10m``, ``2h``, ``1d``, ``3w``; whole numbers of one unit only.

So what is said can be read back the same. Selectors and the command line read them here.
"""

import re
from typing import Final

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_SHAPE: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def find_seconds(text: str) -> int | None:
    """Return the seconds that ``text`` means; ``None`` when it is no duration."""
    match = _SHAPE.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def spell(seconds: int) -> str:
    """Return the shortest text that means ``seconds``."""
    for unit, size in _UNITS.items():
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return "0s"
