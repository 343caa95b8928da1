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
    Params,
    ReferenceViolated,
    UniqueViolated,
)
from fleetvisor.db.migrate import pending

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

_KEYS_MAX: Final = 500
_BUSY_MS: Final = 5_000
_UNIQUE: Final = {apsw.SQLITE_CONSTRAINT_UNIQUE, apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID}
_REFERENCE: Final = {apsw.SQLITE_CONSTRAINT_FOREIGNKEY, apsw.SQLITE_CONSTRAINT_TRIGGER}


def fault(error: apsw.Error) -> DatabaseFault:
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


def connect(path: str, *, writer: bool, vfs: str | None = None) -> apsw.Connection:
    """Open a connection with the pragmas of its part; ``vfs`` is for tests that count syncs."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=256)
    connection.setbusytimeout(_BUSY_MS)
    for pragma in ("foreign_keys = ON", "trusted_schema = OFF", "temp_store = MEMORY", "cache_size = -32768"):
        drain(connection, f"PRAGMA {pragma}")
    if writer:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 2000"):
            drain(connection, f"PRAGMA {pragma}")
    functions = cast("Any", connection)
    functions.create_scalar_function("current_writer", lambda: 0, 0)
    functions.create_scalar_function("writer_horizon", lambda: 1, 0)
    return connection


def _execute(connection: apsw.Connection, sql: str, params: Params | None = None) -> Any:  # noqa: ANN401
    """Start a statement; apsw's own types are incomplete, so its cursor is any object here."""
    return cast("Any", connection).execute(sql, params)


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
        self._plans: dict[tuple[str, type], rows.Plan] = {}

    def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; give them all."""
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
        """Run a statement that returns rows; give the first."""
        found = self.all(row, sql, params)
        return found[0] if found else None

    def run(self, sql: str, params: Params) -> int:
        """Run a statement; give the number of rows it changed."""
        before = self.connection.total_changes()
        cursor = _execute(self.connection, sql, params)
        for _ in cursor:
            pass
        changed = self.connection.changes()
        return changed if self.connection.total_changes() != before else 0


class SqliteTx:
    """The transaction that a body sees; its methods never suspend."""

    def __init__(self, statements: Statements) -> None:
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


def finish(body: Body[T], tx: SqliteTx) -> T:
    """Drive a body to its end in this thread."""
    coroutine = cast("Coroutine[Any, Any, T]", body(tx))
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise TypeError(f"{body!r} awaited something else than its transaction")


def in_savepoint(connection: apsw.Connection, tx: SqliteTx, body: Body[T]) -> T:
    """Drive a body inside a savepoint; what it raises rolls back what it did, and only that."""
    drain(connection, "SAVEPOINT body")
    try:
        result = finish(body, tx)
    except BaseException:
        drain(connection, "ROLLBACK TO body")
        drain(connection, "RELEASE body")
        raise
    drain(connection, "RELEASE body")
    return result
