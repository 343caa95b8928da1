"""PostgreSQL through asyncpg: the same statements, each write body in a SERIALIZABLE transaction of its own.

A body whose transaction met another one is run again.
Reads are single statements on a pool, each its own snapshot. Deliberately no statement of its own: what a body runs
on SQLite it runs here. A write whose connection is lost while it commits ends as ``DatabaseBusy`` and may have
happened, as after any lost answer. Spec: ``docs/adr/0001-database-port.md``.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import msgspec
import stamina

from fleetvisor.db import lanes
from fleetvisor.db.database import Body, DatabaseBusy, DatabaseFault, DatabaseUnfit, Params, Tally
from fleetvisor.db.lanes import Lane
from fleetvisor.db.postgres_schema import CONNECT_S, migrate
from fleetvisor.db.postgres_statements import AGAIN, ERRORS, PostgresTx, Texts, fault
from fleetvisor.ground.disk import Condition, Fault

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

Pool = Any  # asyncpg's pool is generic in what has no name

POOL_SIZE: Final = 10
_RETRY_S: Final = 10.0
_TRIES: Final = 50
ACQUIRE_S: Final = 10.0
_TIMEOUT_S: Final = 30.0
_SCAN_S: Final = 60
_SIZES: Final[dict[Lane, int]] = {"requests": POOL_SIZE, "jobs": 3, "scans": 2}
_SETTINGS: Final = {
    "application_name": "fleetvisor",
    # An unfinished transaction holds back every reader of the change log: a node that froze may not do so for ever.
    "idle_in_transaction_session_timeout": "60000",
}


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
        return isinstance(error, AGAIN)


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
        """Return what the pool runs when the connection comes back."""
        well, self._well = self._well, False
        return "" if well else cast("Any", super()).get_reset_query()


class PostgresDatabase:
    """The port on a PostgreSQL database that several nodes share."""

    def __init__(self, pools: dict[Lane, Pool], scan_s: float, acquire_s: float = ACQUIRE_S) -> None:
        """Take the pools of a database whose schema is current: one for each lane, so that none waits for another."""
        self._pools = pools
        self._scan_s = scan_s
        self._acquire_s = acquire_s
        self._texts = Texts()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._condition = Condition()
        self._commits = 0
        self._repeats = 0

    @property
    def tally(self) -> Tally:
        """What this node did since it was opened; every body is a transaction of its own."""
        return Tally(self._commits, self._commits, self._repeats)

    @property
    def degraded(self) -> Fault | None:
        """What is wrong with the disk of the PostgreSQL server."""
        return self._condition.fault

    def _fault(self, error: Exception) -> DatabaseFault:
        """Translate an error, and note what it says of the disk."""
        translated = fault(error)
        if isinstance(translated, DatabaseUnfit):
            self._condition.note(translated.fault)
        return translated

    def _acquire(self) -> Any:  # noqa: ANN401  (asyncpg's pools are generic in what has no name)
        """Borrow a connection of the lane that is in use, and do not wait for it without limit."""
        lane = lanes.current()
        return self._pools[lane].acquire(timeout=self._scan_s if lane == "scans" else self._acquire_s)

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key."""
        found = await self.all(row, sql, params)
        return found[0] if found else None

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small, indexed result."""
        self._refuse_if_closed()
        try:
            async with self._acquire() as connection:
                found = await PostgresTx(connection, self._texts).all(row, sql, params)
                connection.went_well()
                return found
        except ERRORS as error:
            raise self._fault(error) from error

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger, on a connection of the lane that is in use."""
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
                    async with self._acquire() as connection:
                        async with connection.transaction(isolation="serializable"):
                            tx = PostgresTx(connection, self._texts)
                            run = cast("Coroutine[Any, Any, T]", body(tx))
                            try:
                                result = await run
                            except (OSError, TimeoutError) as error:
                                own = error
                                raise
                        connection.went_well()
                        self._commits += 1
                        if tx.changed:
                            self._condition.wrote()
                        return result
        except ERRORS as error:
            if error is own:
                raise
            raise self._fault(error) from error
        raise AssertionError("a retry ends by a result or by an error")

    async def check(self) -> None:
        """Prove that the database answers."""
        self._refuse_if_closed()
        try:
            async with self._acquire() as connection:
                await connection.fetchval("SELECT 1")
                connection.went_well()
        except ERRORS as error:
            raise self._fault(error) from error

    async def close(self) -> None:
        """Finish the writes under way, then close the connections, also when the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._let_go(), name="postgres-close")
        await asyncio.shield(self._closing)

    async def _let_go(self) -> None:
        while self._writes:
            await asyncio.wait(self._writes)
        for pool in self._pools.values():
            await pool.close()

    def _refuse_if_closed(self) -> None:
        if self._closing is not None:
            raise DatabaseBusy("The database is closed.")


async def open_postgres(
    url: str, *, pool_size: int = POOL_SIZE, scan_s: int = _SCAN_S, acquire_s: float = ACQUIRE_S
) -> PostgresDatabase:
    """Connect to ``postgresql://…`` and bring its schema up to date; no scan lasts longer than ``scan_s`` seconds.

    A caller waits at most ``acquire_s`` seconds for a connection.

    Raises ``DatabaseFault``.
    """
    pools: dict[Lane, Pool] = {}
    try:
        await migrate(url)
        for lane, size in _SIZES.items():
            wanted = pool_size if lane == "requests" else size
            pools[lane] = await _pool(url, wanted, scan_s if lane == "scans" else None)
    except (*ERRORS, ValueError, OverflowError) as error:  # what asyncpg raises for a URL it does not take
        for pool in pools.values():
            pool.terminate()
        raise fault(error) from error
    return PostgresDatabase(pools, scan_s, acquire_s)


async def _pool(url: str, size: int, time_s: int | None) -> Pool:
    settings = _SETTINGS if time_s is None else {**_SETTINGS, "statement_timeout": str(time_s * 1000)}
    return await cast("Any", asyncpg).create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_S,
        command_timeout=_TIMEOUT_S if time_s is None else time_s + ACQUIRE_S,
        server_settings=settings,
        connection_class=_Session,
    )
