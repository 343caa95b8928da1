"""The real clock, the real source of random bytes, and real threads: the one module that knows the wall clock.

Deliberately nothing else: whoever needs time or chance takes the ports of ``ground/clock``.
"""

import asyncio
import contextlib
import contextvars
import random
import secrets
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from fleetvisor.ground.clock import Millis

T = TypeVar("T")


class RealClock:
    """The machine's clock."""

    def now(self) -> Millis:
        """Return the time of day in milliseconds since the epoch."""
        return Millis(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(delay_s)

    def timeout(self, delay_s: float | None) -> asyncio.Timeout:
        """Return ``asyncio.timeout``."""
        return asyncio.timeout(delay_s)


class RealEntropy:
    """The operating system's random bytes."""

    def token(self, size: int) -> bytes:
        """Return ``size`` bytes fit for secrets."""
        return secrets.token_bytes(size)

    def fraction(self) -> float:
        """Return a number in [0, 1) for jitter."""
        return random.random()


class Threads:
    """Some threads of their own for blocking work of one kind: the server's ``Offload``.

    Work of one kind never waits for work of another. The threads are daemons: neither the end of the event loop nor
    the end of the process waits for one that hangs, as both do for ``asyncio.to_thread``.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        """Start no thread yet; at most ``threads_max`` are started as they are needed."""
        self._name = name
        self._threads_max = threads_max
        self._queue: SimpleQueue[_Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._free = 0

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run ``work`` on one of the threads, in the caller's context."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Task(contextvars.copy_context(), work, loop, future))
        with self._lock:
            if self._free:
                self._free -= 1
            elif self._started < self._threads_max:
                self._started += 1
                threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        return await future

    def _serve(self) -> None:
        while True:
            self._queue.get().run()
            with self._lock:
                self._free = min(self._free + 1, self._started)


class _Task(NamedTuple):
    """Work that waits for a thread, and the future that waits for the work."""

    context: contextvars.Context
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    def run(self) -> None:
        """Do the work, unless nobody waits for it any more, and hand over how it ended."""
        if self.future.cancelled():
            return
        result, fault = None, None
        try:
            result = self.context.run(self.work)
        except BaseException as error:  # noqa: BLE001  (raised again where the work was asked for)
            # No future takes this one.
            fault = RuntimeError("the work raised StopIteration") if isinstance(error, StopIteration) else error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.settle, result, fault)

    def settle(self, result: object, fault: BaseException | None) -> None:
        """Hand over the result or the fault, on the loop."""
        if self.future.done():
            return
        if fault is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(fault)


async def inline(work: Callable[[], T]) -> T:
    """Run blocking work at once: the ``Offload`` of the simulator and of unit tests."""
    return work()
