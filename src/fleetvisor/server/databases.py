"""Opening the database at start: errors become refusals that name the file and say what to do."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from fleetvisor.db.database import Database, DatabaseFault, DatabaseUnfit
from fleetvisor.ground.limits import Limits
from fleetvisor.server.files import WAY_OUT, StartFault

if TYPE_CHECKING:
    from fleetvisor.db.sqlite import SqliteDatabase

AT_ONCE_BYTES: Final = 64 << 20  # takes less than a second; a larger file is looked through while it serves
#: What to do where a data directory was used and has no database.
ANEW: Final = (
    "a server ran with this directory, and its database is not here: if that was not meant, stop the server, then"
    " restore the database from a backup, or start with the --database that it had"
)
_log = structlog.get_logger()
_looking: Final[set[asyncio.Future[str]]] = set()


async def open_local(path: Path, at_once_bytes: int = AT_ONCE_BYTES) -> Database:
    """Open a SQLite file, and look whether it is whole: a larger one than ``at_once_bytes`` while it serves.

    Raises ``StartFault``.
    """
    from fleetvisor.db.sqlite import open_sqlite

    if await asyncio.to_thread(_is_gone, path):
        _log.warning("database.made_anew", path=str(path), advice=ANEW)
    try:
        db = await open_sqlite(path)
    except DatabaseFault as error:
        if isinstance(error, DatabaseUnfit):
            raise StartFault(f"The database {path} cannot be opened. {error} {WAY_OUT[error.fault]}") from error
        if error.__cause__ is None:  # the port's own words, which say what to do
            raise StartFault(f"The database {path} cannot be opened: {error}") from error
        advice = "If it is damaged, restore it from a backup (docs/how-to/back-up.md)."
        raise StartFault(f"The database {path} cannot be opened: {error}. {advice}") from error
    looking = asyncio.ensure_future(_inspect(db, path))
    if await asyncio.to_thread(_size, path) > at_once_bytes:
        _looking.add(looking)
        looking.add_done_callback(_looking.discard)
    elif damage := await looking:
        await db.close()
        raise StartFault(f"The database {path} is damaged ({damage}). {WAY_OUT['damaged']}")
    return db


def _is_gone(path: Path) -> bool:
    """Return whether a server ran here, as its credentials say, and its database is not there."""
    return not path.exists() and path.with_name("credentials.json").exists()


def _size(path: Path) -> int:
    return path.stat().st_size


async def _inspect(db: "SqliteDatabase", path: Path) -> str:
    """Look through the file; log damage, and return the first of it."""
    try:
        damage = (*await db.inspect(), "")[0]
    except DatabaseUnfit as error:
        damage = str(error)
    except DatabaseFault as error:  # closed meanwhile
        _log.debug("database.not_inspected", reason=str(error))
        return ""
    if damage:
        _log.error("database.damaged", path=str(path), damage=damage, advice=WAY_OUT["damaged"])
    return damage


async def open_shared(url: str, limits: Limits) -> Database:
    """Open a PostgreSQL database; its URL, which may hold a password, is never told."""
    from fleetvisor.db.postgres import open_postgres

    try:
        return await open_postgres(url, scan_s=limits.scan_time_s)
    except DatabaseFault as error:
        if error.__cause__ is None:
            raise StartFault(f"The database cannot be opened: {error}") from error
        advice = "Check that PostgreSQL runs, and the host, the port, the name and the password in --database."
        raise StartFault(f"The database cannot be opened: {error}. {advice}") from error
