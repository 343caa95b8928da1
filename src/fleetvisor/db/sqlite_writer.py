"""The one thread that writes to SQLite, and its group commit.

What waits together becomes one transaction with one fsync; each body has a savepoint of its own, so one that fails
is rolled back alone. Deliberately no reads.
"""

import asyncio
import contextlib
import queue
import threading
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from fleetvisor.db.database import Body, DatabaseFault, DatabaseUnfit
from fleetvisor.db.sqlite_files import Files
from fleetvisor.db.sqlite_statements import BUSY_MS, SqliteTx, Statements, drain, fault, finish
from fleetvisor.ground.disk import Condition

_BATCH_MAX: Final = 512


class Tidying(NamedTuple):
    """How often the writer looks at the write-ahead log, and from which size on it cuts the log back."""

    every_s: float = 10.0
    log_bytes_max: int = 32 << 20


class Job:
    """One write that waits for its turn, and then for its commit."""

    __slots__ = ("body", "context", "error", "future", "result")

    def __init__(self, body: Body[Any], future: asyncio.Future[Any]) -> None:
        self.body = body
        self.context = copy_context()
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        """Hand the caller its result or error; one that went away gets nothing."""
        if self.future.cancelled():
            return
        if isinstance(self.error, StopIteration):  # no future takes one
            self.future.set_exception(RuntimeError(f"{self.body!r} raised StopIteration"))
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer(threading.Thread):
    """The one thread that writes: takes what waits, runs each in a savepoint, commits once, answers all."""

    def __init__(
        self, connection: apsw.Connection, loop: asyncio.AbstractEventLoop, condition: Condition, tidying: Tidying
    ) -> None:
        super().__init__(name="sqlite-writer", daemon=True)
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.commits = 0
        self.writes = 0
        self._connection = connection
        self._loop = loop
        self._condition = condition
        self._files = Files(Path(connection.filename))
        self._tidying = tidying
        self._tidied = time.monotonic()
        self._tx = SqliteTx(Statements(connection))

    def run(self) -> None:
        """Take, commit and answer batches until the end of the queue."""
        while (batch := self._take()) is not None:
            if time.monotonic() - self._tidied > self._tidying.every_s:
                self._tidy()
            if not batch:
                continue
            self._commit(batch)
            # A loop that was closed without closing the database has nobody left to answer.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer, batch)

    def _tidy(self) -> None:
        """Cut the write-ahead log back when somebody else's long read let it grow; while anybody reads it, later."""
        self._tidied = time.monotonic()
        try:
            if Path(f"{self._connection.filename}-wal").stat().st_size <= self._tidying.log_bytes_max:
                return
            self._connection.setbusytimeout(0)
            try:
                drain(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connection.setbusytimeout(BUSY_MS)
        except (OSError, apsw.Error) as error:  # no log yet, or a disk that is full: a write will meet that as well
            translated = fault(error)
            if isinstance(translated, DatabaseUnfit):
                self._condition.note(translated.fault)

    def _take(self) -> list[Job] | None:
        try:
            first = self.jobs.get(timeout=self._tidying.every_s)
        except queue.Empty:
            return []
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

    def _commit(self, batch: list[Job]) -> None:
        changes = self._connection.total_changes()
        try:
            drain(self._connection, "BEGIN IMMEDIATE")
            for job in batch:
                self._run(job)
            self._files.check()
            drain(self._connection, "COMMIT")
            self.commits += 1
            self.writes += sum(job.error is None for job in batch)
            if self._connection.total_changes() != changes:
                self._condition.wrote()
        except BaseException as error:  # noqa: BLE001  the callers get it, and the thread goes on
            self._abandon()
            # Also those whose body had failed: what they judged by was never committed.
            for job in batch:
                job.error = error if isinstance(error, DatabaseFault) else fault(error)
        for job in batch:
            if isinstance(job.error, DatabaseUnfit):
                self._condition.note(job.error.fault)

    def _run(self, job: Job) -> None:
        """Drive a body inside a savepoint; what it raises rolls back what it did, and only that."""
        drain(self._connection, "SAVEPOINT body")
        try:
            job.result = job.context.run(finish, job.body, self._tx)
        except BaseException as error:
            if not self._connection.in_transaction:  # a full disk, say: SQLite rolled back the neighbours as well
                raise
            job.error = fault(error) if isinstance(error, apsw.Error) else error
            drain(self._connection, "ROLLBACK TO body")
        drain(self._connection, "RELEASE body")

    def _abandon(self) -> None:
        # Should this fail too, the transaction stays open and each later BEGIN says so to its callers.
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                drain(self._connection, "ROLLBACK")

    @staticmethod
    def _answer(batch: list[Job]) -> None:
        for job in batch:
            job.answer()
