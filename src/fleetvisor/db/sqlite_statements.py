"""Statements on one SQLite connection: opened, migrated, run, and driven inside a write body.

Deliberately no threads: ``db/sqlite`` and ``db/sqlite_writer`` say which connection is used where.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar, cast

import apsw
import msgspec

from fleetvisor.db import rows
from fleetvisor.db.database import (
    Body,
    ConstraintViolated,
    DatabaseBusy,
    DatabaseFault,
    DatabaseUnfit,
    Params,
    ReferenceViolated,
    UniqueViolated,
)
from fleetvisor.db.migrate import pending
from fleetvisor.db.portable import with_keys
from fleetvisor.db.statement_cache import StatementCache
from fleetvisor.ground.disk import Fault

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

_AMONG_KEYS: Final = "IN (SELECT value FROM json_each(:keys))"
BUSY_MS: Final = 5_000
_STATEMENTS: Final = 128
_UNIQUE: Final = {apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID}
# SQLite carries out ON DELETE RESTRICT as a trigger of its own, and says so; the schema has no other triggers.
_REFERENCE: Final = {apsw.SQLITE_CONSTRAINT_FOREIGNKEY, apsw.SQLITE_CONSTRAINT_TRIGGER}
_BUSY: Final = (apsw.BusyError, apsw.LockedError, apsw.InterruptError, apsw.ConnectionClosedError)

_DAMAGED: Final = {apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA}


def _disk_fault(error: BaseException, code: int) -> Fault | None:
    """Return what an error of apsw says of the disk. SQLite calls a quota that is used up an I/O error."""
    match error:
        case apsw.FullError():
            return "disk_full"
        case apsw.ReadOnlyError():
            return "read_only"
        case apsw.CorruptError() | apsw.NotADBError():
            return "damaged"
        case apsw.IOError() if code == apsw.SQLITE_IOERR_SHMSIZE:
            return "disk_full"
        case apsw.IOError():
            return "damaged" if code in _DAMAGED else "io_error"
        case _:
            return None


def fault(error: BaseException) -> DatabaseFault:
    """Translate an error of apsw, or another that ended a transaction, into the port's."""
    code = getattr(error, "extendedresult", 0)
    if code in _UNIQUE:
        return UniqueViolated(str(error))
    if code in _REFERENCE:
        return ReferenceViolated(str(error))
    if isinstance(error, apsw.ConstraintError):
        return ConstraintViolated(str(error))
    if isinstance(error, _BUSY):
        return DatabaseBusy(str(error))
    disk = _disk_fault(error, code)
    if disk is not None:
        return DatabaseUnfit(disk, f"{type(error).__name__}: {error}")
    return DatabaseFault(f"{type(error).__name__}: {error}")


def connect(path: str, *, writer: bool, vfs: str | None = None, statements: int = _STATEMENTS) -> apsw.Connection:
    """Open a connection with the pragmas of its part; ``vfs`` is for tests that count syncs.

    apsw keeps up to so many prepared ``statements``, none of them longer than 16 KiB.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=statements)
    connection.setbusytimeout(BUSY_MS)
    for pragma in ("foreign_keys = ON", "trusted_schema = OFF", "temp_store = MEMORY", "cache_size = -32768"):
        drain(connection, f"PRAGMA {pragma}")
    if writer:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 2000"):
            drain(connection, f"PRAGMA {pragma}")
    functions = cast("Any", connection)
    functions.create_scalar_function("current_writer", lambda: 0, 0)
    functions.create_scalar_function("current_snapshot", lambda: "1:1:", 0)
    return connection


def _execute(cursor: Any, sql: str, params: Params | None = None) -> Any:  # noqa: ANN401
    """Start a statement on a cursor or connection; apsw's own types are incomplete, so each is any object here.

    Raises ``DatabaseFault`` for a value that no column can hold, as PostgreSQL does.
    """
    try:
        return cursor.execute(sql, params)
    except (OverflowError, UnicodeEncodeError, TypeError) as error:
        raise DatabaseFault(f"A parameter cannot be sent: {error}") from error


def drain(connection: apsw.Connection, sql: str, params: Params | None = None) -> None:
    """Run one statement to its end: apsw runs it only as far as its rows are read."""
    for _ in _execute(connection, sql, params):
        pass


def migrate(connection: apsw.Connection) -> None:
    """Bring the schema up to date, each migration in a transaction of its own. Raises ``DatabaseFault``."""
    drain(connection, "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY) STRICT")
    found = Statements(connection).all(_Version, "SELECT max(version) AS version FROM schema_version", {})
    for migration in pending(found[0].version or 0):
        with connection:
            for statement in migration.statements:
                drain(connection, statement)
            drain(connection, "INSERT INTO schema_version VALUES (:version)", {"version": migration.version})


class _Version(msgspec.Struct):
    version: int | None


class Statements:
    """Runs statements on one connection, with a row plan kept for each pair of text and type."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._plans: StatementCache[rows.Plan] = StatementCache()

    def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; return them all."""
        make = self._plans.get((sql, row))
        if make is None:
            return self._first(row, sql, params)
        # All rows are read before one is made: a row type that refuses its values leaves no statement half run.
        return [make(values) for values in _execute(self.connection, sql, params).fetchall()]

    def _first(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement whose plan is not made yet.

        Its columns are asked for before the first step, because apsw forgets them with the last row.
        """
        columns: list[str] = []

        def trace(cursor: Any, _sql: str, _bindings: object) -> bool:  # noqa: ANN401
            columns[:] = [column[0] for column in cursor.get_description()]
            return True

        cursor = cast("Any", self.connection.cursor())
        cursor.exec_trace = trace
        found = _execute(cursor, sql, params).fetchall()
        make = self._plans.put((sql, row), rows.plan(row, columns), sql)
        return [make(values) for values in found]

    def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; return the first."""
        found = self.all(row, sql, params)
        return found[0] if found else None

    def run(self, sql: str, params: Params) -> int:
        """Run a statement; return the number of rows it changed."""
        before = self.connection.total_changes()
        drain(self.connection, sql, params)
        # changes() still tells of the statement before when this one changed nothing.
        return self.connection.changes() if self.connection.total_changes() != before else 0


class SqliteTx:
    """The transaction that a body sees; its methods never suspend."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; return the first."""
        return self._statements.one(row, sql, params)

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; return them all."""
        return self._statements.all(row, sql, params)

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; return the number of rows it changed."""
        return self._statements.run(sql, params)

    async def read_many(self, row: type[R], sql: str, keys: Sequence[str], params: Params | None = None) -> list[R]:
        """Read the rows of many keys in one statement."""
        if not keys:
            return []
        # One text for any number of keys: apsw keeps prepared statements by text.
        given = {**(params or {}), "keys": msgspec.json.encode(keys).decode()}
        return self._statements.all(row, with_keys(sql, _AMONG_KEYS), given)

    async def write_many(self, sql: str, rows: Sequence[Params]) -> int:
        """Run a statement once for each of ``rows``."""
        return sum(self._statements.run(sql, params) for params in rows)


def finish(body: Body[T], tx: SqliteTx) -> T:
    """Drive a body to its end in this thread."""
    coroutine = cast("Coroutine[Any, Any, T]", body(tx))
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise TypeError(f"{body!r} awaited something else than its transaction")
