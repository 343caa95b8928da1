"""Durations as options of the command line: as ``ground/durations`` reads them, or plain seconds."""

import re
from typing import Final

from fleetvisor.cli.options import Usage
from fleetvisor.ground.durations import find_seconds

_PLAIN: Final = re.compile(r"[0-9]{1,9}")


def parse_seconds(text: str | None, option: str) -> int | None:
    """Return the seconds that ``text`` means, ``None`` for none. Raises ``Usage``, which names the ``option``."""
    if text is None:
        return None
    word = text.strip()
    seconds = int(word) if _PLAIN.fullmatch(word) else find_seconds(word)
    if seconds is None:
        raise Usage(f"{option}: {text!a} is no duration.", "Write it as 90s, 10m, 2h, 1d or 1w, or in plain seconds.")
    return seconds
