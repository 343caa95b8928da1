"""Statements on one PostgreSQL connection, and what asyncpg's errors mean.

``:name`` parameters become ``$1``, ``$2``, … once per text. Which connection is used for what says ``db/postgres``.
"""

import contextlib
import re
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from fleetvisor.db import rows
from fleetvisor.db.database import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseFault,
    DatabaseUnfit,
    Params,
    ReferenceViolated,
    UniqueViolated,
)
from fleetvisor.db.portable import numbered, with_keys
from fleetvisor.db.statement_cache import StatementCache
from fleetvisor.ground.disk import Fault

R = TypeVar("R", bound=msgspec.Struct)

_CHANGED: Final = re.compile(r"(?:INSERT 0|UPDATE|DELETE) (\d+)")

Connection = Any  # asyncpg's connection and its pool's proxy share no type


ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_BUSY: Final = (
    *AGAIN,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # the pool or the connection was closed
    asyncpg.InternalClientError,  # the connection ended in the middle of an answer
    asyncpg.OperatorInterventionError,  # shut down, started, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidTransactionStateError,  # idle for too long, or a standby that takes no writes
    OSError,
    TimeoutError,
)

_DISK: Final[tuple[tuple[tuple[type[Exception], ...], Fault], ...]] = (
    ((asyncpg.DiskFullError,), "disk_full"),
    ((asyncpg.ReadOnlySQLTransactionError,), "read_only"),
    ((asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError), "damaged"),
    ((asyncpg.PostgresIOError,), "io_error"),
)


def fault(error: Exception) -> DatabaseFault:
    """Translate an error of asyncpg or of the connection into the port's."""
    if isinstance(error, asyncpg.PostgresError):
        # The detail repeats the row that was refused, and rows belong in no log.
        cast("Any", error).detail = None
    for kinds, disk in _DISK:
        if isinstance(error, kinds):
            return DatabaseUnfit(disk, str(error))
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


class Texts:
    """Statements respelled for asyncpg, with the order of their parameters; kept for each text, bounded in bytes."""

    def __init__(self) -> None:
        self._known: StatementCache[tuple[str, tuple[str, ...]]] = StatementCache()
        self._plans: StatementCache[rows.Plan] = StatementCache()

    def respell(self, sql: str) -> tuple[str, tuple[str, ...]]:
        """Return the text with ``$n`` and the names in that order; a name used twice has one number."""
        known = self._known.get(sql)
        if known is None:
            text, names = numbered(sql)
            known = self._known.put(sql, (text, names), sql, text, *names)
        return known

    def find(self, sql: str, row: type) -> rows.Plan | None:
        """Return the function that makes a ``row``, once it was made."""
        return self._plans.get((sql, row))

    def learn(self, sql: str, row: type[msgspec.Struct], columns: Sequence[str]) -> rows.Plan:
        """Make that function. Raises ``TypeError`` when the columns are not those of ``row``."""
        return self._plans.put((sql, row), rows.plan(row, columns), sql)


@contextlib.contextmanager
def _lost() -> Generator[None]:
    """Tell a connection that was lost, or did not answer in time, from what a body raises itself."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise DatabaseBusy(str(error) or type(error).__name__) from error


class PostgresTx:
    """Statements on one connection: the transaction that a body sees, and what reads use outside one."""

    def __init__(self, connection: Connection, texts: Texts) -> None:
        self._connection = connection
        self._texts = texts
        self.changed = False

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; return the first."""
        found = await self.all(row, sql, params)
        return found[0] if found else None

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; return them all."""
        text, names = self._texts.respell(sql)
        return await self._fetch(row, text, [params[name] for name in names])

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; return the number of rows it changed."""
        text, names = self._texts.respell(sql)
        with _lost():
            status: str = await self._connection.execute(text, *[params[name] for name in names])
        changed = _CHANGED.match(status)
        self.changed = self.changed or changed is not None
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
        self.changed = True
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
