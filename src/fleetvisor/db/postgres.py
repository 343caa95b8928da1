"""PostgreSQL through asyncpg: the same statements, each write body in a SERIALIZABLE transaction of its own.

A body whose transaction met another one is run again. ``:name`` parameters become ``$1``, ``$2``, … once per text.
Reads are single statements on a pool, each its own snapshot. Deliberately no statement of its own: what a body runs
on SQLite it runs here. A write whose connection is lost while it commits ends as ``DatabaseBusy`` and may have
happened, as after any lost answer. Spec: ``docs/adr/0001-database-port.md``.
"""

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Generator, Sequence
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
    Tally,
    UniqueViolated,
)
from fleetvisor.db.migrate import pending
from fleetvisor.db.portable import numbered, to_postgres, with_keys

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

POOL_SIZE: Final = 10
_MIGRATION_LOCK: Final = 0x666C6565
_RETRY_S: Final = 10.0
_TRIES: Final = 50
_CONNECT_S: Final = 10.0
_ACQUIRE_S: Final = 10.0
_TIMEOUT_S: Final = 30.0
_TEXTS_MAX: Final = 2000
_SETTINGS: Final = {
    "application_name": "fleetvisor",
    # An unfinished transaction holds back every reader of the change log: a node that froze may not do so for ever.
    "idle_in_transaction_session_timeout": "60000",
}
_CHANGED: Final = re.compile(r"(?:INSERT 0|UPDATE|DELETE) (\d+)")
_FUNCTIONS: Final = """
CREATE OR REPLACE FUNCTION current_writer() RETURNS BIGINT LANGUAGE sql VOLATILE AS
$$ SELECT pg_current_xact_id()::text::bigint $$;
CREATE OR REPLACE FUNCTION glob(pattern TEXT, given TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE AS
$$SELECT CAST(CAST(given LIKE replace(replace(replace(replace(replace(replace(
    pattern, chr(92), chr(92) || chr(92)), '%', chr(92) || '%'), '_', chr(92) || '_'), '[[]', '['), '*', '%'), '?', '_')
    AS INTEGER) AS BIGINT)$$;
CREATE OR REPLACE FUNCTION writer_horizon() RETURNS BIGINT LANGUAGE sql STABLE AS
$$ SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint $$;
"""

Connection = Any  # asyncpg's connection and its pool's proxy share no type


_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_BUSY: Final = (
    *_AGAIN,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # the pool or the connection was closed
    asyncpg.OperatorInterventionError,  # shut down, started, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidTransactionStateError,  # idle for too long, or a standby that takes no writes
    OSError,
    TimeoutError,
)


def _fault(error: Exception) -> DatabaseFault:
    """Translate an error of asyncpg or of the connection into the port's."""
    if isinstance(error, asyncpg.PostgresError):
        # The detail repeats the row that was refused, and rows belong in no log.
        cast("Any", error).detail = None
    match error:
        case asyncpg.UniqueViolationError():
            return UniqueViolated(str(error))
        case asyncpg.ForeignKeyViolationError() | asyncpg.RestrictViolationError():
            return ReferenceViolated(str(error))
        case asyncpg.IntegrityConstraintViolationError():
            return ConstraintViolated(str(error))
        case ValueError():  # asyncpg's own: a parameter that fits no column, or a URL that says nothing
            return DatabaseFault(str(error))
        case _ if isinstance(error, _BUSY):
            return DatabaseBusy(str(error) or type(error).__name__)
        case _:
            return DatabaseFault(str(error))


class _Race:
    """Judges whether a body is run again: always when it met another one, once when a unique key was taken.

    PostgreSQL may answer a body that looked first, found nothing and inserted with a unique violation instead of a
    serialisation failure. Run again, it sees the winner's row and does what it would have done on SQLite.
    """

    def __init__(self) -> None:
        self._taken = False

    def __call__(self, error: Exception) -> bool:
        if isinstance(error, asyncpg.UniqueViolationError) and not self._taken:
            self._taken = True
            return True
        return isinstance(error, _AGAIN)


class _Session(asyncpg.Connection):
    """A connection that the pool resets only after something went wrong on it.

    Nothing here changes a session, and a reset doubles the cost of a read. But a statement that was prepared and then
    not run, or was cancelled, leaves the server in a transaction that only a reset ends.
    """

    _well = False

    def went_well(self) -> None:
        """Say that everything begun on this connection, since the pool lent it, has ended."""
        self._well = True

    def get_reset_query(self) -> str:
        """Give what the pool runs when the connection comes back."""
        well, self._well = self._well, False
        return "" if well else cast("Any", super()).get_reset_query()


class _Texts:
    """Statements respelled for asyncpg, with the order of their parameters; kept for each text."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._plans: dict[tuple[str, type], rows.Plan] = {}

    def respell(self, sql: str) -> tuple[str, tuple[str, ...]]:
        """Give the text with ``$n`` and the names in that order; a name used twice has one number."""
        known = self._known.get(sql)
        if known is None:
            if len(self._known) >= _TEXTS_MAX:  # selectors make texts of their own
                self._known.clear()
                self._plans.clear()
            known = self._known[sql] = numbered(sql)
        return known

    def find(self, sql: str, row: type) -> rows.Plan | None:
        """Give the function that makes a ``row``, once it was made."""
        return self._plans.get((sql, row))

    def learn(self, sql: str, row: type[msgspec.Struct], columns: Sequence[str]) -> rows.Plan:
        """Make that function. Raises ``TypeError`` when the columns are not those of ``row``."""
        made = self._plans[sql, row] = rows.plan(row, columns)
        return made


@contextlib.contextmanager
def _lost() -> Generator[None]:
    """Tell a connection that was lost, or did not answer in time, from what a body raises itself."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise DatabaseBusy(str(error) or type(error).__name__) from error


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
        return await self._fetch(row, text, [params[name] for name in names])

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; give the number of rows it changed."""
        text, names = self._texts.respell(sql)
        with _lost():
            status: str = await self._connection.execute(text, *[params[name] for name in names])
        changed = _CHANGED.match(status)
        return int(changed[1]) if changed else 0

    async def read_many(self, row: type[R], sql: str, keys: Sequence[str], params: Params | None = None) -> list[R]:
        """Read the rows of many keys in one statement."""
        if not keys:
            return []
        text, names = self._texts.respell(with_keys(sql, "= ANY(:keys)"))
        given: dict[str, Any] = {**(params or {}), "keys": list(keys)}
        return await self._fetch(row, text, [given[name] for name in names])

    async def write_many(self, sql: str, rows: Sequence[Params]) -> int:
        """Run a statement once for each of ``rows``, all on the way before the first is answered."""
        if not rows:
            return 0
        text, names = self._texts.respell(f"{sql} RETURNING 1")
        with _lost():
            return len(await self._connection.fetchmany(text, [[params[name] for name in names] for params in rows]))

    async def _fetch(self, row: type[R], text: str, values: Sequence[Any]) -> list[R]:
        make = self._texts.find(text, row)
        with _lost():
            if make is None:
                prepared = await self._connection.prepare(text)
                make = self._texts.learn(text, row, [column.name for column in prepared.get_attributes()])
            found = await self._connection.fetch(text, *values)
        return [make(record) for record in found]


class PostgresDatabase:
    """The port on a PostgreSQL database that several nodes share."""

    def __init__(self, pool: Any) -> None:  # noqa: ANN401  (asyncpg's pool is generic in what has no name)
        """Take the pool of a database whose schema is current."""
        self._pool = pool
        self._texts = _Texts()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._commits = 0
        self._repeats = 0

    @property
    def tally(self) -> Tally:
        """What this node did since it was opened; every body is a transaction of its own."""
        return Tally(self._commits, self._commits, self._repeats)

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key."""
        found = await self.all(row, sql, params)
        return found[0] if found else None

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small, indexed result."""
        self._refuse_if_closed()
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
                found = await _PostgresTx(connection, self._texts).all(row, sql, params)
                connection.went_well()
                return found
        except _ERRORS as error:
            raise _fault(error) from error

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger; the server does not wait for it either way."""
        return await self.all(row, sql, params)

    async def write(self, body: Body[T]) -> T:
        """Run a body, in a task of its own that a cancelled caller does not end."""
        self._refuse_if_closed()
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
        own: Exception | None = None
        try:
            async for attempt in stamina.retry_context(
                on=_Race(), attempts=_TRIES, timeout=_RETRY_S, wait_initial=0.001, wait_max=0.25, wait_jitter=0.01
            ):
                with attempt:
                    self._repeats += attempt.num > 1
                    async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
                        async with connection.transaction(isolation="serializable"):
                            run = cast("Coroutine[Any, Any, T]", body(_PostgresTx(connection, self._texts)))
                            try:
                                result = await run
                            except (OSError, TimeoutError) as error:
                                own = error
                                raise
                        connection.went_well()
                        self._commits += 1
                        return result
        except _ERRORS as error:
            if error is own:
                raise
            raise _fault(error) from error
        raise AssertionError("a retry ends by a result or by an error")

    async def check(self) -> None:
        """Prove that the database answers."""
        self._refuse_if_closed()
        try:
            async with self._pool.acquire(timeout=_ACQUIRE_S) as connection:
                await connection.fetchval("SELECT 1")
                connection.went_well()
        except _ERRORS as error:
            raise _fault(error) from error

    async def close(self) -> None:
        """Finish the writes under way, then close the connections, also when the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._let_go(), name="postgres-close")
        await asyncio.shield(self._closing)

    async def _let_go(self) -> None:
        while self._writes:
            await asyncio.wait(self._writes)
        await self._pool.close()

    def _refuse_if_closed(self) -> None:
        if self._closing is not None:
            raise DatabaseBusy("The database is closed.")


async def _migrate(url: str) -> None:
    """Bring the schema up to date, on a connection of its own: a migration may take as long as it needs."""
    connection: Connection = await cast("Any", asyncpg).connect(url, timeout=_CONNECT_S)
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


async def open_postgres(url: str, *, pool_size: int = POOL_SIZE) -> PostgresDatabase:
    """Connect to ``postgresql://…`` and bring its schema up to date. Raises ``DatabaseFault``."""
    try:
        await _migrate(url)
        pool: Any = await cast("Any", asyncpg).create_pool(
            url,
            min_size=1,
            max_size=pool_size,
            timeout=_CONNECT_S,
            command_timeout=_TIMEOUT_S,
            server_settings=_SETTINGS,
            connection_class=_Session,
        )
    except (*_ERRORS, ValueError) as error:
        raise _fault(error) from error
    return PostgresDatabase(pool)
