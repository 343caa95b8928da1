"""A connection that reads on a thread of its own, and a few of them as one; a read that nobody waits for ends.

SQLite is interrupted when the caller is cancelled, or when its time is over. Which reads go where says ``db/sqlite``.
"""

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import apsw
import msgspec

from fleetvisor.db.database import Params
from fleetvisor.db.sqlite_statements import Statements

R = TypeVar("R", bound=msgspec.Struct)

_STOP_S: Final = 0.02
_NICE: Final = 19  # at 10 Linux lets a scan end its slice of some ms before it wakes what waits for a core


class _Read:
    """One read. Whether it is stopped is said under the reader's lock, and so is which one runs."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False


class Reader:
    """One connection and its thread; reads are served in their order."""

    def __init__(self, connection: apsw.Connection, name: str, *, nice: bool) -> None:
        """Start the thread; a ``nice`` one leaves the processor to the others."""
        self._connection = connection
        self._statements = Statements(connection)
        self._lock = threading.Lock()
        self._running: _Read | None = None
        self._closing = False
        self._pool = ThreadPoolExecutor(1, name, initializer=_yield_processor if nice else None)

    async def read(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows. Raises ``apsw.InterruptError`` when the reader is closed meanwhile."""
        read = _Read()
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closing:
                raise apsw.InterruptError("the database is closed")
            under_way = self._pool.submit(self._run, read, row, sql, params)
        try:
            return await asyncio.wrap_future(under_way)
        except asyncio.CancelledError:
            self._stop(read, loop)
            raise

    def close(self) -> None:
        """End what runs and what waits, then close the connection. Called on another thread than the loop's."""
        with self._lock:
            self._closing = True
        ended = self._pool.submit(bool)
        while not ended.done():
            # Again and again: an interruption that comes just before a statement begins is lost.
            self._connection.interrupt()
            with contextlib.suppress(TimeoutError):
                ended.result(_STOP_S)
        self._pool.shutdown()
        self._connection.close()

    def _run(self, read: _Read, row: type[R], sql: str, params: Params) -> list[R]:
        with self._lock:
            if read.stopped or self._closing:
                raise apsw.InterruptError("the read was stopped before it began")
            self._running = read
        try:
            return self._statements.all(row, sql, params)
        finally:
            with self._lock:
                self._running = None

    def _stop(self, read: _Read, loop: asyncio.AbstractEventLoop) -> None:
        """Interrupt a read, and no other one, until it has ended."""
        with self._lock:
            read.stopped = True
            if self._running is not read:
                return
            self._connection.interrupt()
        if not loop.is_closed():
            loop.call_later(_STOP_S, self._stop, read, loop)


class Readers:
    """A few readers that share what comes: the first that is free takes the next, in the order of asking."""

    def __init__(self, readers: tuple[Reader, ...]) -> None:
        """Take readers that nobody else uses."""
        self._readers = readers
        self._free = list(readers)
        self._places = asyncio.Semaphore(len(readers))

    async def read(self, row: type[R], sql: str, params: Params) -> list[R]:
        """Run a statement that returns rows, once a reader is free."""
        async with self._places:
            reader = self._free.pop()
            try:
                return await reader.read(row, sql, params)
            finally:
                self._free.append(reader)

    def close(self) -> None:
        """Close them all."""
        for reader in self._readers:
            reader.close()


def _yield_processor() -> None:
    """Let this thread have what others leave of the processor, where the system knows that of threads."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
