"""Opening the database at start: errors become refusals that name the file and say what to do."""

from pathlib import Path

from fleetvisor.db.database import Database, DatabaseFault, DatabaseUnfit
from fleetvisor.ground.limits import Limits
from fleetvisor.server.files import WAY_OUT, StartFault


async def open_local(path: Path) -> Database:
    """Open a SQLite file. Raises ``StartFault``."""
    from fleetvisor.db.sqlite import open_sqlite

    try:
        return await open_sqlite(path)
    except DatabaseFault as error:
        if isinstance(error, DatabaseUnfit):
            raise StartFault(f"The database {path} cannot be opened. {error} {WAY_OUT[error.fault]}") from error
        if error.__cause__ is None:  # the port's own words, which say what to do
            raise StartFault(f"The database {path} cannot be opened: {error}") from error
        advice = "If it is damaged, restore it from a backup (docs/how-to/back-up.md)."
        raise StartFault(f"The database {path} cannot be opened: {error}. {advice}") from error


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
