"""A deterministic event loop on virtual time: when nothing is ready, time jumps to the next timer.

No threads and no sockets: ``run_in_executor`` runs the function at once, and a loop that waits for something which no
timer and no callback can bring is a ``Deadlock``. The clock and the entropy of a simulated world stand here, too.

Deliberately nothing of the product.
"""

import asyncio
import random
import selectors
from asyncio import base_events
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from fleetvisor.ground.clock import Millis

T = TypeVar("T")
EPOCH_MS: Final = 1_767_225_600_000


class Deadlock(Exception):
    """Everything waits, and no timer is set."""


class _NoSockets(selectors.BaseSelector):
    """Stands where the loop waits for sockets, and moves time instead."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits, and no timer is set")
        if timeout > 0:
            self.now_s += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        raise NotImplementedError("a simulated world has no sockets")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        raise NotImplementedError("a simulated world has no sockets")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualLoop(base_events.BaseEventLoop):
    """An event loop whose ``time()`` is virtual."""

    def __init__(self) -> None:
        """Start at time 0."""
        super().__init__()
        self._selector = _NoSockets()
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._selector.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # noqa: ANN401, ARG002
        """Run ``func`` now, on this thread: a simulated world has no other."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as fault:  # noqa: BLE001  (it belongs to whoever awaits the future)
            future.set_exception(fault)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """Have no events of sockets to process."""

    def _write_to_self(self) -> None:
        """Need no waking: the loop never sleeps."""


class VirtualClock:
    """The clock port on the running ``VirtualLoop``."""

    def now(self) -> Millis:
        """Return the time of day, which starts at 2026-01-01."""
        return Millis(EPOCH_MS + round(self.monotonic() * 1000))

    def monotonic(self) -> float:
        """Return virtual seconds since the world's start."""
        return asyncio.get_running_loop().time()

    async def sleep(self, delay_s: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(delay_s)

    def timeout(self, delay_s: float | None) -> asyncio.Timeout:
        """Return ``asyncio.timeout``, which the loop's virtual time drives."""
        return asyncio.timeout(delay_s)


class SeededEntropy:
    """The entropy port from a seed. Each part of a world takes its own, so that none disturbs another's."""

    def __init__(self, *seed: int | str) -> None:
        """Seed with the world's seed and the part's name."""
        self.random = random.Random("/".join(str(part) for part in seed))

    def token(self, size: int) -> bytes:
        """Return ``size`` bytes."""
        return self.random.randbytes(size)

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self.random.random()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a new virtual loop, and cancel what it left behind."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
