"""SQLite through apsw: reads on the event loop, one writer thread with group commit.

Many writes that wait together become one transaction and one fsync; each is answered when that is durable. A
body that fails is rolled back alone, to its savepoint. Deliberately one process: the writer is the only one.
``memory`` gives the simulator's and the unit tests' variant: one connection, no thread, everything inline.
Spec: ``docs/adr/0001-database-port.md``.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw
import msgspec

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
from fleetvisor.db.migrate import pending

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

_BATCH_MAX: Final = 512
_KEYS_MAX: Final = 500
_BUSY_MS: Final = 5_000
_UNIQUE: Final = {apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID}
_REFERENCE: Final = {apsw.SQLITE_CONSTRAINT_FOREIGNKEY, apsw.SQLITE_CONSTRAINT_TRIGGER}


def _fault(error: apsw.Error) -> DatabaseFault:
    """Translate an error of apsw into the port's."""
    code = getattr(error, "extendedresult", 0)
    if code in _UNIQUE:
        return UniqueViolated(str(error))
    if code in _REFERENCE:
        return ReferenceViolated(str(error))
    if isinstance(error, apsw.ConstraintError):
        return ConstraintViolated(str(error))
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return DatabaseBusy(str(error))
    return DatabaseFault(str(error))


def _connect(path: str, *, writer: bool, vfs: str | None = None) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=256)
    connection.setbusytimeout(_BUSY_MS)
    for pragma in ("foreign_keys = ON", "trusted_schema = OFF", "temp_store = MEMORY", "cache_size = -32768"):
        _drain(connection, f"PRAGMA {pragma}")
    if writer:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 2000"):
            _drain(connection, f"PRAGMA {pragma}")
    functions = cast("Any", connection)
    functions.create_scalar_function("current_writer", lambda: 0, 0)
    functions.create_scalar_function("writer_horizon", lambda: 1, 0)
    return connection


def _execute(connection: apsw.Connection, sql: str, params: Params | None = None) -> Any:  # noqa: ANN401
    """Start a statement; apsw's own types are incomplete, so its cursor is any object here."""
    return cast("Any", connection).execute(sql, params)


def _drain(connection: apsw.Connection, sql: str, params: Params | None = None) -> None:
    for _ in _execute(connection, sql, params):
        pass


def _migrate(connection: apsw.Connection) -> None:
    _drain(connection, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY) STRICT")
    found = _Statements(connection).all(_Version, "SELECT max(version) AS version FROM schema_version", {})
    for migration in pending(found[0].version or 0):
        with connection:
            for statement in migration.statements:
                _drain(connection, statement)
            _drain(connection, "INSERT INTO schema_version VALUES (:version)", {"version": migration.version})


class _Version(msgspec.Struct):
    version: int | None


class _Statements:
    """Runs statements on one connection, with a row plan kept for each pair of text and type."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._plans: dict[tuple[str, type], rows.Plan] = {}

    def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        cursor = _execute(self.connection, sql, params)
        make = self._plans.get((sql, row))
        if make is None:
            names = [column[0] for column in cursor.get_description()] if self._has_rows(cursor) else None
            found = cursor.fetchall()
            if names is None:
                return []
            make = self._plans[sql, row] = rows.plan(row, names)
            return [make(values) for values in found]
        return [make(values) for values in cursor]

    @staticmethod
    def _has_rows(cursor: Any) -> bool:  # noqa: ANN401
        """Tell whether the description can be read: apsw has none once a statement has finished."""
        try:
            cursor.get_description()
        except apsw.ExecutionCompleteError:
            return False
        return True

    def one(self, row: type[R], sql: str, params: Params) -> R | None:
        found = self.all(row, sql, params)
        return found[0] if found else None

    def run(self, sql: str, params: Params) -> int:
        before = self.connection.total_changes()
        cursor = _execute(self.connection, sql, params)
        for _ in cursor:
            pass
        changed = self.connection.changes()
        return changed if self.connection.total_changes() != before else 0


class _SqliteTx:
    """The transaction that a body sees; its methods never suspend."""

    def __init__(self, statements: _Statements) -> None:
        self._statements = statements

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; give the first."""
        return self._statements.one(row, sql, params)

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; give them all."""
        return self._statements.all(row, sql, params)

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; give the number of rows it changed."""
        return self._statements.run(sql, params)

    async def read_many(self, row: type[R], sql: str, keys: Sequence[str]) -> list[R]:
        """Read the rows of many keys, in chunks."""
        found: list[R] = []
        for start in range(0, len(keys), _KEYS_MAX):
            chunk = keys[start : start + _KEYS_MAX]
            names = [f"k{place}" for place in range(len(chunk))]
            text = sql.replace("(:keys)", "(" + ", ".join(f":{name}" for name in names) + ")")
            found += self._statements.all(row, text, dict(zip(names, chunk, strict=True)))
        return found

    async def write_many(self, sql: str, rows: Sequence[Params]) -> int:
        """Run a statement once for each of ``rows``."""
        return sum(self._statements.run(sql, params) for params in rows)


def _finish(body: Body[T], tx: _SqliteTx) -> T:
    """Drive a body to its end in this thread."""
    coroutine = cast("Coroutine[Any, Any, T]", body(tx))
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise TypeError(f"{body!r} awaited something else than its transaction")


def _in_savepoint(connection: apsw.Connection, tx: _SqliteTx, body: Body[T]) -> T:
    _drain(connection, "SAVEPOINT body")
    try:
        result = _finish(body, tx)
    except BaseException:
        _drain(connection, "ROLLBACK TO body")
        _drain(connection, "RELEASE body")
        raise
    _drain(connection, "RELEASE body")
    return result


class _Job:
    """One write that waits for its turn, and then for its commit."""

    __slots__ = ("body", "error", "future", "result")

    def __init__(self, body: Body[Any], future: asyncio.Future[Any]) -> None:
        self.body = body
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        if self.future.cancelled():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class _Writer(threading.Thread):
    """The one thread that writes: takes what waits, runs each in a savepoint, commits once, answers all."""

    def __init__(self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="sqlite-writer", daemon=True)
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.commits = 0
        self.writes = 0
        self._connection = connection
        self._loop = loop
        self._tx = _SqliteTx(_Statements(connection))

    def run(self) -> None:
        while (batch := self._take()) is not None:
            self._commit(batch)
            self._loop.call_soon_threadsafe(self._answer, batch)

    def _take(self) -> list[_Job] | None:
        first = self.jobs.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < _BATCH_MAX:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self.jobs.put(None)
                break
            batch.append(job)
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        try:
            _drain(self._connection, "BEGIN IMMEDIATE")
            for job in batch:
                try:
                    job.result = _in_savepoint(self._connection, self._tx, job.body)
                except apsw.ConstraintError as error:
                    job.error = _fault(error)
                except apsw.Error:
                    raise
                except BaseException as error:  # noqa: BLE001  the caller gets it, whatever it is
                    job.error = error
            _drain(self._connection, "COMMIT")
            self.commits += 1
            self.writes += len(batch)
        except apsw.Error as error:
            self._abandon()
            for job in batch:
                job.error = _fault(error)

    def _abandon(self) -> None:
        if self._connection.in_transaction:
            _drain(self._connection, "ROLLBACK")

    @staticmethod
    def _answer(batch: list[_Job]) -> None:
        for job in batch:
            job.answer()


class SqliteDatabase:
    """The port on one SQLite file."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file, bring its schema up to date, and start the writer on the running loop."""
        try:
            self._write_connection = _connect(str(path), writer=True, vfs=vfs)
            _migrate(self._write_connection)
            self._reader = _Statements(_connect(str(path), writer=False, vfs=vfs))
            self._scanner = _Statements(_connect(str(path), writer=False, vfs=vfs))
        except apsw.Error as error:
            raise _fault(error) from error
        self._pool = ThreadPoolExecutor(1, "sqlite-scan")
        self._loop = asyncio.get_running_loop()
        self._writer = _Writer(self._write_connection, self._loop)
        self._writer.start()
        self._closed = False

    @property
    def commits(self) -> int:
        """How many transactions were committed, each with one or more writes."""
        return self._writer.commits

    @property
    def writes(self) -> int:
        """How many write bodies were committed."""
        return self._writer.writes

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key, on the event loop."""
        try:
            return self._reader.one(row, sql, params)
        except apsw.Error as error:
            raise _fault(error) from error

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read a small, indexed result, on the event loop."""
        try:
            return self._reader.all(row, sql, params)
        except apsw.Error as error:
            raise _fault(error) from error

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger, on the read thread."""
        try:
            return await self._loop.run_in_executor(self._pool, self._scanner.all, row, sql, params)
        except apsw.Error as error:
            raise _fault(error) from error

    async def write(self, body: Body[T]) -> T:
        """Run a body in the next transaction of the writer; return when it is durable."""
        if self._closed:
            raise DatabaseBusy("The database is closed.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.jobs.put(_Job(body, future))
        return await asyncio.shield(future)

    async def check(self) -> None:
        """Prove that the file answers."""
        try:
            _drain(self._reader.connection, "SELECT 1 FROM schema_version LIMIT 1")
        except apsw.Error as error:
            raise _fault(error) from error

    async def close(self) -> None:
        """Finish the writes under way, then close the file."""
        if self._closed:
            return
        self._closed = True
        self._writer.jobs.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._pool.shutdown()
        for statements in (self._reader, self._scanner):
            statements.connection.close()
        self._write_connection.close()


class MemoryDatabase:
    """The port on one connection in memory: every call runs at once, in the caller's turn."""

    def __init__(self) -> None:
        """Make an empty database with the present schema."""
        self._connection = _connect(":memory:", writer=False)
        _migrate(self._connection)
        self._statements = _Statements(self._connection)
        self._tx = _SqliteTx(self._statements)
        self.commits = 0
        self.writes = 0

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
        _drain(self._connection, "BEGIN IMMEDIATE")
        try:
            result = _finish(body, self._tx)
            _drain(self._connection, "COMMIT")
        except apsw.Error as error:
            _drain(self._connection, "ROLLBACK")
            raise _fault(error) from error
        except BaseException:
            _drain(self._connection, "ROLLBACK")
            raise
        self.commits += 1
        self.writes += 1
        return result

    async def check(self) -> None:
        """Prove that the connection answers."""
        _drain(self._connection, "SELECT 1")

    async def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    @staticmethod
    def _guarded(read: Callable[..., T], *args: object) -> T:
        try:
            return read(*args)
        except apsw.Error as error:
            raise _fault(error) from error


async def open_sqlite(path: Path, *, vfs: str | None = None) -> SqliteDatabase:
    """Open the SQLite file at ``path``. Raises ``DatabaseFault``."""
    return SqliteDatabase(path, vfs=vfs)


def memory() -> MemoryDatabase:
    """Give a new database in memory."""
    return MemoryDatabase()
