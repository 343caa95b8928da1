"""The schema of a PostgreSQL database: brought up to date at start, one migration in each transaction."""

from typing import Any, Final, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from fleetvisor.db.database import DatabaseFault
from fleetvisor.db.migrate import pending
from fleetvisor.db.portable import to_postgres
from fleetvisor.db.postgres_statements import Connection

CONNECT_S: Final = 10.0
_MIGRATION_LOCK: Final = 0x666C6565
_FUNCTIONS: Final = """
CREATE OR REPLACE FUNCTION current_writer() RETURNS BIGINT LANGUAGE sql VOLATILE AS
$$ SELECT pg_current_xact_id()::text::bigint $$;
CREATE OR REPLACE FUNCTION glob(pattern TEXT, given TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS
$$SELECT CAST(CAST(given LIKE replace(replace(replace(replace(replace(replace(
    pattern, chr(92), chr(92) || chr(92)), '%', chr(92) || '%'), '_', chr(92) || '_'), '[[]', '['), '*', '%'), '?', '_')
    AS INTEGER) AS BIGINT)$$;
CREATE OR REPLACE FUNCTION current_snapshot() RETURNS TEXT LANGUAGE sql STABLE AS
$$ SELECT pg_current_snapshot()::text $$;
"""


async def migrate(url: str) -> None:
    """Bring the schema up to date, on a connection of its own: a migration may take as long as it needs."""
    connection: Connection = await cast("Any", asyncpg).connect(url, timeout=CONNECT_S)
    try:
        if (encoding := await connection.fetchval("SHOW server_encoding")) != "UTF8":
            raise DatabaseFault(f"The database's encoding is {encoding}; make it anew with ENCODING 'UTF8'.")
        while await _step(connection):
            pass
    finally:
        await connection.close()


async def _step(connection: Connection) -> bool:
    """Apply the next migration, if any; several nodes that start at once take turns.

    READ COMMITTED, whatever the database's default: the version must be read as it is after the wait for the lock.
    """
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)")
        present = await connection.fetchval("SELECT COALESCE(max(version), 0) FROM schema_version")
        for migration in pending(int(present))[:1]:
            for statement in migration.statements:
                await connection.execute(to_postgres(statement))
            await connection.execute("INSERT INTO schema_version VALUES ($1)", migration.version)
            return True
        await connection.execute(_FUNCTIONS)
        return False
