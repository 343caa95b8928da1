"""Whether a SQLite file is whole: ``PRAGMA quick_check`` on a connection that only reads.

It looks at every page: flipped bytes in the structure, zeroed pages, rows that break their columns' rules. A flipped
byte inside a value cannot be told from another value.
"""

import time
from pathlib import Path
from typing import Any, Final, cast

import apsw
import msgspec

from fleetvisor.db.sqlite_statements import fault

SQL: Final = "PRAGMA quick_check(10)"
_STEPS: Final = 100_000
_WELL: Final = ("ok",)


class TimeIsOver(Exception):
    """The file is too large to look through in the time that was given."""


class Finding(msgspec.Struct, frozen=True):
    """One line of what SQLite says."""

    quick_check: str


def damage_of(findings: list[Finding]) -> tuple[str, ...]:
    """Return what is damaged; nothing when the file is whole."""
    found = tuple(line for finding in findings for line in finding.quick_check.splitlines())
    return () if found == _WELL else tuple(line for line in found if not line.startswith("***")) or found


def inspect(path: Path, time_s: float) -> tuple[str, ...]:
    """Look through a file that another process may write to. Raises ``DatabaseFault``, ``TimeIsOver``."""
    end = time.monotonic() + time_s
    over = False

    def is_over() -> bool:
        nonlocal over
        over = time.monotonic() > end
        return over

    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.setbusytimeout(5000)
            connection.set_progress_handler(is_over, _STEPS)
            found = [Finding(str(row[0])) for row in cast("Any", connection).execute(SQL)]
        finally:
            connection.close()
    except apsw.Error as error:
        if over:
            raise TimeIsOver from error
        raise fault(error) from error
    return damage_of(found)
