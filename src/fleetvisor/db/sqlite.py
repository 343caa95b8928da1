"""SQLite through apsw: small reads on the event loop, larger ones on threads by lane, one writer with group commit.

Many writes that wait together become one transaction and one fsync; each is answered when that is durable. A
body that fails is rolled back alone, to its savepoint. Deliberately one process: the writer is the only one.
``memory`` gives the simulator's and the unit tests' variant: one connection, no thread, everything inline.
Spec: ``docs/adr/0001-database-port.md``.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw
import msgspec

from fleetvisor.db import lanes
from fleetvisor.db.database import Body, DatabaseBusy, DatabaseFault, DatabaseUnfit, Params, Tally
from fleetvisor.db.lanes import Lane
from fleetvisor.db.sqlite_inspect import SQL, Finding, damage_of
from fleetvisor.db.sqlite_reader import Reader, Readers
from fleetvisor.db.sqlite_statements import SqliteTx, Statements, connect, drain, fault, finish, migrate
from fleetvisor.db.sqlite_writer import Job, Tidying, Writer
from fleetvisor.ground.disk import Condition, Fault

_STATEMENTS: Final = 32  # of a thread that reads: selectors make statements of their own
_READERS: Final[dict[Lane, int]] = {"requests": 1, "jobs": 1, "scans": 2}

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


class SqliteDatabase:
    """The port on one SQLite file."""

    def __init__(self, path: Path, *, vfs: str | None = None, tidying: Tidying | None = None) -> None:
        """Open or make the file, bring its schema up to date, and start the writer on the running loop."""
        self._path = str(path)
        self._inspectors: list[Reader] = []
        try:
            self._write_connection = connect(str(path), writer=True, vfs=vfs)
            migrate(self._write_connection)
            self._reader = Statements(connect(str(path), writer=False, vfs=vfs))
            self._lanes = {lane: _readers(path, lane, vfs) for lane in _READERS}
        except apsw.Error as error:
            raise fault(error) from error
        self._loop = asyncio.get_running_loop()
        self._condition = Condition()
        self._writer = Writer(self._write_connection, self._loop, self._condition, tidying or Tidying())
        self._writer.start()
        self._closing: asyncio.Task[None] | None = None

    @property
    def tally(self) -> Tally:
        """What was done since it was opened. Nothing is ever run again: one thread writes."""
        return Tally(self._writer.writes, self._writer.commits, 0)

    @property
    def degraded(self) -> Fault | None:
        """What is wrong with the disk."""
        return self._condition.fault

    def _fault(self, error: apsw.Error) -> DatabaseFault:
        """Translate an error of a read, and note what it says of the disk."""
        translated = fault(error)
        if isinstance(translated, DatabaseUnfit):
            self._condition.note(translated.fault)
        return translated

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key, on the event loop."""
        self._refuse_if_closed()
        try:
            return self._reader.one(row, sql, params)
        except apsw.Error as error:
            raise self._fault(error) from error

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small, indexed result, on the event loop."""
        self._refuse_if_closed()
        try:
            return self._reader.all(row, sql, params)
        except apsw.Error as error:
            raise self._fault(error) from error

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger, on a thread of the lane that is in use."""
        self._refuse_if_closed()
        try:
            return await self._lanes[lanes.current()].read(row, sql, params)
        except apsw.Error as error:
            raise self._fault(error) from error

    async def inspect(self) -> tuple[str, ...]:
        """Look through the whole file for damage, on a thread that is closed with the database; return what is found.

        Damage is noted: the database is degraded from then on.
        """
        self._refuse_if_closed()
        try:
            inspector = Reader(connect(self._path, writer=False, statements=1), "sqlite-inspect", nice=True)
            self._inspectors.append(inspector)
            damage = damage_of(await inspector.read(Finding, SQL, {}))
        except apsw.Error as error:
            raise self._fault(error) from error
        if damage:
            self._condition.note("damaged")
        return damage

    async def write(self, body: Body[T]) -> T:
        """Run a body in the next transaction of the writer; return when it is durable."""
        self._refuse_if_closed()
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.jobs.put(Job(body, future))
        # Cancelling the caller cancels this future, never the job, which is the writer's by now.
        return await future

    async def check(self) -> None:
        """Prove that the file answers."""
        self._refuse_if_closed()
        try:
            drain(self._reader.connection, "SELECT 1 FROM schema_version LIMIT 1")
        except apsw.Error as error:
            raise self._fault(error) from error

    async def close(self) -> None:
        """Finish the writes under way, then close the file, also when the caller is cancelled meanwhile."""
        if self._closing is None:
            self._closing = self._loop.create_task(asyncio.to_thread(self._let_go), name="sqlite-close")
            self._writer.jobs.put(None)
        await asyncio.shield(self._closing)

    def _refuse_if_closed(self) -> None:
        if self._closing is not None:
            raise DatabaseBusy("The database is closed.")

    def _let_go(self) -> None:
        """Wait for all threads, then close: the writer last, because the last one to close empties the log."""
        self._writer.join()
        with contextlib.ExitStack() as ending:
            ending.callback(self._write_connection.close)
            ending.callback(self._reader.connection.close)
            for readers in (*self._lanes.values(), *self._inspectors):
                ending.callback(readers.close)


def _readers(path: Path, lane: Lane, vfs: str | None) -> Readers:
    opened = (connect(str(path), writer=False, vfs=vfs, statements=_STATEMENTS) for _ in range(_READERS[lane]))
    return Readers(tuple(Reader(one, f"sqlite-{lane}", nice=lane == "scans") for one in opened))


class MemoryDatabase:
    """The port on one connection in memory: every call runs at once, in the caller's turn."""

    def __init__(self) -> None:
        """Make an empty database with the present schema."""
        self._connection = connect(":memory:", writer=False)
        with cast("Any", self._connection).backup("main", _blank(), "main") as copy:
            copy.step()
        self._statements = Statements(self._connection)
        self._tx = SqliteTx(self._statements)
        self._writes = 0

    @property
    def tally(self) -> Tally:
        """What was done since it was made."""
        return Tally(self._writes, self._writes, 0)

    @property
    def degraded(self) -> Fault | None:
        """Nothing: there is no disk."""
        return None

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key."""
        return self._guarded(self._statements.one, row, sql, params)

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small result."""
        return self._guarded(self._statements.all, row, sql, params)

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger."""
        return self._guarded(self._statements.all, row, sql, params)

    async def write(self, body: Body[T]) -> T:
        """Run a body in a transaction of its own."""
        try:
            drain(self._connection, "BEGIN IMMEDIATE")
            result = finish(body, self._tx)
            drain(self._connection, "COMMIT")
        except BaseException as error:
            self._abandon()
            if isinstance(error, apsw.Error):
                raise fault(error) from error
            raise
        self._writes += 1
        return result

    def _abandon(self) -> None:
        with contextlib.suppress(apsw.Error):  # closed, or rolled back already: nothing is left to abandon
            if self._connection.in_transaction:
                drain(self._connection, "ROLLBACK")

    async def check(self) -> None:
        """Prove that the connection answers."""
        self._guarded(drain, self._connection, "SELECT 1")

    async def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    @staticmethod
    def _guarded(read: Callable[..., T], *args: object) -> T:
        try:
            return read(*args)
        except apsw.Error as error:
            raise fault(error) from error


@functools.cache
def _blank() -> apsw.Connection:
    """Return an empty database with the present schema, made once: copying it costs a fifth of making another."""
    connection = connect(":memory:", writer=False)
    migrate(connection)
    return connection


async def open_sqlite(path: Path, *, vfs: str | None = None, tidying: Tidying | None = None) -> SqliteDatabase:
    """Open the SQLite file at ``path``. Raises ``DatabaseFault``."""
    return SqliteDatabase(path, vfs=vfs, tidying=tidying)


def memory() -> MemoryDatabase:
    """Return a new database in memory."""
    return MemoryDatabase()
