"""The port to the database, and the rules of the SQL that runs on both engines.

Deliberately no query builder and no mapper: SQL is plain text beside the function that uses it, parameters
are ``:name``, and a row becomes an instance of the ``msgspec.Struct`` that the caller names.

Portable SQL: upsert ``RETURNING``, ``ON CONFLICT DO NOTHING RETURNING``, row-value keysets, ``IS NOT DISTINCT
FROM``, ``UPDATE … FROM``, ``COALESCE`` and bytes are the same on both, and so is ``glob(pattern, text) = 1`` with
``*``, ``?`` and ``[[]`` for ``[``. Not portable, so not used: a parameter standing alone (write ``CAST(:x AS TEXT)
IS NULL``), ``LIKE``, ``::``, ``ANY``, implicit NULL order, ``INSERT OR``.
Booleans are INTEGER 0/1 columns; the row type's ``bool`` fields convert them. Times are INTEGER milliseconds.

A row type is a ``msgspec.Struct`` whose fields stand in the order of the SELECT's columns and have their names;
the adapters check names and order once per (statement, type) and raise ``TypeError`` when they differ.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from fleetvisor.ground.disk import SENTENCES, Fault

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

Value = str | int | bytes | None
Params = Mapping[str, Value]


class DatabaseFault(Exception):
    """The database could not do what was asked."""


class DatabaseBusy(DatabaseFault):
    """The database stayed busy with conflicting changes, or unreachable, for longer than the retries last."""


class DatabaseUnfit(DatabaseBusy):
    """The disk below the database is full or read-only, or what it holds is damaged."""

    def __init__(self, fault: Fault, reason: str) -> None:
        """Keep which of these it is, and the engine's own words."""
        super().__init__(f"{SENTENCES[fault]} ({reason})")
        self.fault: Fault = fault


class ConstraintViolated(DatabaseFault):
    """A constraint refused a change. Raised out of ``write``, never to be caught inside a body."""


class UniqueViolated(ConstraintViolated):
    """A unique or primary key exists already."""


class ReferenceViolated(ConstraintViolated):
    """A foreign key refuses: the referenced row is missing, or the row is still referenced."""


class Tally(msgspec.Struct, frozen=True):
    """What a database did since it was opened: bodies committed, transactions that took, and bodies run again.

    ``writes`` per commit is how well they group (SQLite); ``repeats`` is how often they met another (PostgreSQL).
    """

    writes: int
    commits: int
    repeats: int


class Tx(Protocol):
    """One transaction, as a write body sees it."""

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Run a statement that returns rows; return the first as ``row``, or ``None``. All rows are consumed."""
        ...

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows; return them all."""
        ...

    async def run(self, sql: str, params: Params) -> int:
        """Run a statement; return the number of rows it changed."""
        ...

    async def read_many(self, row: type[R], sql: str, keys: Sequence[str], params: Params | None = None) -> list[R]:
        """Run a SELECT whose text holds ``IN (:keys)`` for many keys, and other ``params``; order is not kept."""
        ...

    async def write_many(self, sql: str, rows: Sequence[Params]) -> int:
        """Run one INSERT, UPDATE or DELETE for each of ``rows`` (all with the same keys); return the changes in all."""
        ...


Body = Callable[[Tx], Awaitable[T]]


class Database(Protocol):
    """A database of either engine. Reads see committed changes only, each statement its own snapshot."""

    async def one(self, row: type[R], sql: str, params: Params) -> R | None:
        """Read by key: the first row, or ``None``. On SQLite it runs on the event loop: key look-ups only."""
        ...

    async def all(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read one keyset page or another small, indexed result. On SQLite it runs on the event loop."""
        ...

    async def scan(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Read something larger, off the event loop."""
        ...

    async def write(self, body: Body[T]) -> T:
        """Run ``body`` in one transaction and return what it returned, once that is durable.

        ``async def body(tx)`` awaits nothing but ``tx``, has no effect outside the database, and may be run
        again (PostgreSQL retries serialisation failures). What it raises rolls back this body alone and
        comes out here. The write is not cancelled when the caller is. Bells and caches come after.
        Raises ``UniqueViolated``, ``ReferenceViolated``, ``DatabaseBusy``, and whatever the body raises.
        """
        ...

    @property
    def tally(self) -> Tally:
        """What was done since it was opened; may be read on any thread."""
        ...

    @property
    def degraded(self) -> Fault | None:
        """What is wrong with its disk, until a write succeeds (damage: until a restart); may be read on any thread."""
        ...

    async def check(self) -> None:
        """Prove that the database answers; raise ``DatabaseFault`` otherwise."""
        ...

    async def close(self) -> None:
        """Finish the writes under way, then let go of files and connections."""
        ...
