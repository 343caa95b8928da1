"""The real clock and the real source of random bytes: the one module that knows the wall clock.

Deliberately nothing else: whoever needs time or chance takes the ports of ``ground/clock``.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from fleetvisor.ground.clock import Millis

T = TypeVar("T")


class RealClock:
    """The machine's clock."""

    def now(self) -> Millis:
        """Give the time of day in milliseconds since the epoch."""
        return Millis(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(delay_s)

    def timeout(self, delay_s: float | None) -> asyncio.Timeout:
        """Give ``asyncio.timeout``."""
        return asyncio.timeout(delay_s)


class RealEntropy:
    """The operating system's random bytes."""

    def token(self, size: int) -> bytes:
        """Give ``size`` bytes fit for secrets."""
        return secrets.token_bytes(size)

    def fraction(self) -> float:
        """Give a number in [0, 1) for jitter."""
        return random.random()


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work on a thread of the loop's pool: the server's ``Offload``."""
    return await asyncio.to_thread(work)


async def inline(work: Callable[[], T]) -> T:
    """Run blocking work at once: the ``Offload`` of the simulator and of unit tests."""
    return work()
