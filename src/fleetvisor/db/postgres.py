"""PostgreSQL through asyncpg: the same statements, each write body in a SERIALIZABLE transaction of its own.

A body whose transaction met another one is run again. ``:name`` parameters become ``$1``, ``$2``, … once per text.
Reads are single statements on a pool, each its own snapshot. Deliberately no statement of its own: what a body runs
on SQLite it runs here. Spec: ``docs/adr/0001-database-port.md``.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import msgspec
import stamina

from fleetvisor.db import rows
from fleetvisor.db.database import (
    Body,
    ConstraintViolated,
    DatabaseBusy,
    DatabaseFault,
    Params,
    ReferenceViolated,
    UniqueViolated,
)
from fleetvisor.db.migrate import pending, to_postgres

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

POOL_SIZE: Final = 10
_MIGRATION_LOCK: Final = 0x666C6565
_RETRY_S: Final = 10.0
_TRIES: Final = 50
_TIMEOUT_S: Final = 30.0
_CHANGED: Final = re.compile(r"(?:INSERT 0|UPDATE|DELETE|SELECT) (\d+)")
_TOKENS: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|::|:([a-z_][a-z0-9_]*)")
_KEYS: Final = re.compile(r"IN \(:keys\)")
_FUNCTIONS: Final = """
CREATE OR REPLACE FUNCTION current_writer() RETURNS BIGINT LANGUAGE sql VOLATILE AS
$$ SELECT pg_current_xact_id()::text::bigint $$;
CREATE OR REPLACE FUNCTION writer_horizon() RETURNS BIGINT LANGUAGE sql STABLE AS
$$ SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint $$;
"""

Connection = Any  # asyncpg's connection and its pool's proxy share no type


def _fault(error: Exception) -> DatabaseFault:
    """Translate an error of asyncpg or of the connection into the port's."""
    match error:
        case asyncpg.UniqueViolationError():
            return UniqueViolated(str(error))
        case asyncpg.ForeignKeyViolationError() | asyncpg.RestrictViolationError():
            return ReferenceViolated(str(error))
        case asyncpg.IntegrityConstraintViolationError():
            return ConstraintViolated(str(error))
        case asyncpg.PostgresConnectionError() | asyncpg.InterfaceError() | OSError() | TimeoutError():
            return DatabaseBusy(str(error) or type(error).__name__)
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError() | asyncpg.TooManyConnectionsError():
            return DatabaseBusy(str(error))
        case asyncpg.CannotConnectNowError() | asyncpg.AdminShutdownError() | asyncpg.LockNotAvailableError():
            return DatabaseBusy(str(error))
        case _:
            return DatabaseFault(str(error))


_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class _Texts:
    """Statements respelled for asyncpg, with the order of their parameters; kept for each text."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._plans: dict[tuple[str, type], rows.Plan] = {}

    def respell(self, sql: str) -> tuple[str, tuple[str, ...]]:
        """Give the text with ``$n`` and the names in that order; a name used twice has one number."""
        known = self._known.get(sql)
        if known is None:
            names: list[str] = []

            def number(token: re.Match[str]) -> str:
                name = token[1]
                if name is None:
                    return token[0]
                if name not in names:
                    names.append(name)
                return f"${names.index(name) + 1}"

            known = self._known[sql] = (_TOKENS.sub(number, sql), tuple(names))
        return known

    def plan(self, sql: str, row: type[R], columns: Sequence[str]) -> rows.Plan:
        """Give the function that makes a ``row``."""
        found = self._plans.get((sql, row))
        if found is None:
            found = self._plans[sql, row] = rows.plan(row, columns)
        return found


class _PostgresTx:
    """Statements on one connection: the transaction that a body sees, and what reads use outside one."""

    def __init__(self, connection: Connection, texts: _Texts) -> None:
        self._connection = connection
        self._texts = texts

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; give the first."""
        found = await self.all(row, sql, params)
        return found[0] if found else None

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; give them all."""
        text, names = self._texts.respell(sql)
        found = await self._connection.fetch(text, *[params[name] for name in names])
        return self._make(sql, row, found)

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; give the number of rows it changed."""
        text, names = self._texts.respell(sql)
        status: str = await self._connection.execute(text, *[params[name] for name in names])
        changed = _CHANGED.match(status)
        return int(changed[1]) if changed else 0

    async def read_many(self, row: type[R], sql: str, keys: Sequence[str]) -> list[R]:
        """Read the rows of many keys in one statement."""
        if not keys:
            return []
        text, _ = self._texts.respell(_KEYS.sub("= ANY(:keys)", sql))
        return self._make(sql, row, await self._connection.fetch(text, list(keys)))

    async def write_many(self, sql: str, rows: Sequence[Params]) -> int:
        """Run a statement once for each of ``rows``."""
        if not rows:
            return 0
        text, names = self._texts.respell(sql)
        prepared = await self._connection.prepare(text)
        changed = 0
        for params in rows:
            await prepared.fetch(*[params[name] for name in names])
            told = _CHANGED.match(prepared.get_statusmsg())
            changed += int(told[1]) if told else 0
        return changed

    def _make(self, sql: str, row: type[R], found: Sequence[Any]) -> list[R]:
        if not found:
            return []
        make = self._texts.plan(sql, row, list(found[0].keys()))
        return [make(tuple(record)) for record in found]


class PostgresDatabase:
    """The port on a PostgreSQL database that several nodes share."""

    def __init__(self, pool: Any) -> None:  # noqa: ANN401  (asyncpg's pool is generic in what has no name)
        """Take the pool of a database whose schema is current."""
        self._pool = pool
        self._texts = _Texts()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key."""
        found = await self.all(row, sql, params)
        return found[0] if found else None

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small, indexed result."""
        try:
            return await _PostgresTx(self._pool, self._texts).all(row, sql, params)
        except _ERRORS as error:
            raise _fault(error) from error

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger; the server does not wait for it either way."""
        return await self.all(row, sql, params)

    async def write(self, body: Body[T]) -> T:
        """Run a body, in a task of its own that a cancelled caller does not end."""
        if self._closed:
            raise DatabaseBusy("The database is closed.")
        task: asyncio.Task[T] = asyncio.create_task(self._write(body), name="postgres-write")
        self._writes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Let go of a write, and read its failure: its caller may be gone."""
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()

    async def _write(self, body: Body[T]) -> T:
        """Try a body until it meets no other change, for a bounded time."""
        try:
            async for attempt in stamina.retry_context(
                on=_AGAIN, attempts=_TRIES, timeout=_RETRY_S, wait_initial=0.001, wait_max=0.25, wait_jitter=0.01
            ):
                with attempt:
                    async with self._pool.acquire() as connection, connection.transaction(isolation="serializable"):
                        run = cast("Coroutine[Any, Any, T]", body(_PostgresTx(connection, self._texts)))
                        return await run
        except _ERRORS as error:
            raise _fault(error) from error
        raise AssertionError("a retry ends by a result or by an error")

    async def check(self) -> None:
        """Prove that the database answers."""
        try:
            await self._pool.fetchval("SELECT 1")
        except _ERRORS as error:
            raise _fault(error) from error

    async def close(self) -> None:
        """Finish the writes under way, then close the connections."""
        if self._closed:
            return
        self._closed = True
        while self._writes:
            await asyncio.wait(self._writes)
        await self._pool.close()


async def _migrate(connection: Connection) -> None:
    """Bring the schema up to date; several nodes that start at once take turns."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)")
        present = await connection.fetchval("SELECT COALESCE(max(version), 0) FROM schema_version")
        for migration in pending(int(present)):
            for statement in migration.statements:
                await connection.execute(to_postgres(statement))
            await connection.execute("INSERT INTO schema_version VALUES ($1)", migration.version)
        await connection.execute(_FUNCTIONS)


async def open_postgres(url: str, *, pool_size: int = POOL_SIZE) -> PostgresDatabase:
    """Connect to ``postgresql://…`` and bring its schema up to date. Raises ``DatabaseFault``."""
    try:
        pool: Any = await cast("Any", asyncpg).create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            command_timeout=_TIMEOUT_S,
            server_settings={"application_name": "fleetvisor"},
        )
    except (*_ERRORS, ValueError) as error:
        raise _fault(error) from error
    try:
        async with pool.acquire() as connection:
            await _migrate(connection)
    except BaseException as error:
        await pool.close()
        if isinstance(error, _ERRORS):
            raise _fault(error) from error
        raise
    return PostgresDatabase(pool)
