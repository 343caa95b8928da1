"""Migrations: ordered ``.sql`` files, each applied once, in a transaction of its own.

The files are written in SQLite's spelling; ``db/portable`` respells them for PostgreSQL. A database whose schema is
newer than this program's is refused: an older program must not write what it does not understand. Deliberately no way
back down: whoever must go back restores the backup made before.
"""

import functools
import re
from importlib import resources
from typing import Final, NamedTuple

from fleetvisor.db.database import DatabaseFault
from fleetvisor.db.portable import split

_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")


class Migration(NamedTuple):
    """One step: its version, its file's name, and its statements."""

    version: int
    name: str
    statements: tuple[str, ...]


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Read the migrations that ship with the program, in order; the numbers run from 1 without a gap."""
    folder = resources.files("fleetvisor.db") / "migrations"
    found = [
        Migration(int(named[1]), entry.name, split(entry.read_text(encoding="utf-8")))
        for entry in folder.iterdir()
        if (named := _NAME.fullmatch(entry.name))
    ]
    return in_order(found)


def in_order(found: list[Migration]) -> tuple[Migration, ...]:
    """Sort migrations. Raises ``DatabaseFault`` when a number is missing or used twice: two branches were merged."""
    ordered = tuple(sorted(found))
    if [migration.version for migration in ordered] != list(range(1, len(ordered) + 1)):
        names = ", ".join(migration.name for migration in ordered)
        raise DatabaseFault(f"The migrations must be numbered 0001, 0002, … without gap or double: {names}")
    return ordered


def pending(present: int) -> tuple[Migration, ...]:
    """Return what a database with schema version ``present`` still needs. Raises ``DatabaseFault`` for a newer one."""
    known = migrations()
    if present > len(known):
        raise DatabaseFault(
            f"The database has schema version {present}, this program knows {len(known)}: "
            "run the newer program, or restore a backup made with this one."
        )
    return known[present:]
