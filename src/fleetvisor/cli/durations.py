"""Durations as people write them on a command line: ``90s``, ``10m``, ``2h``, ``1d``, or plain seconds.

Deliberately whole numbers of one unit only: what is said can be read back the same.
"""

import re
from typing import Final

from fleetvisor.cli.options import Usage

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SHAPE: Final = re.compile(r"([0-9]{1,9})([smhd]?)")


def parse_seconds(text: str | None, option: str) -> int | None:
    """Give the seconds that ``text`` means, ``None`` for none. Raises ``Usage``, which names the ``option``."""
    if text is None:
        return None
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise Usage(f"{option}: {text!a} is no duration.", "Write it as 90s, 10m, 2h or 1d, or in plain seconds.")
    return int(match[1]) * _UNITS[match[2] or "s"]


def spell(seconds: int) -> str:
    """Give the shortest text that means ``seconds``."""
    for unit, size in _UNITS.items():
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return "0s"
