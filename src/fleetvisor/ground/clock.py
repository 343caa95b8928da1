"""The ports to time and chance, so that everything above can be run again from a seed.

Deliberately holds no implementation: the real ones are in ``fleetvisor.reality``, the simulator's in
``fleetvisor.sim``. Time of day is integer milliseconds since the epoch, UTC (``Millis``) everywhere, in the
database too; durations end in ``_s`` (float or int seconds).
"""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NewType, Protocol

from fleetvisor.ground.memory import TIMES

Millis = NewType("Millis", int)

EARLIEST: Final = Millis(1_767_225_600_000)
AHEAD_MS: Final = 300_000  # by how much the clocks of a server's nodes may differ
"""2026-01-01: a clock that says less is not set, since this program is younger."""


class Clock(Protocol):
    """What time it is, and how to wait."""

    def now(self) -> Millis:
        """Return the time of day, in milliseconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait ``delay_s`` seconds."""
        ...

    def timeout(self, delay_s: float | None) -> AbstractAsyncContextManager[object]:
        """Return a context that raises ``TimeoutError`` after ``delay_s`` seconds (``None``: never)."""
        ...


class Entropy(Protocol):
    """Where random bytes come from."""

    def token(self, size: int) -> bytes:
        """Return ``size`` random bytes, unpredictable in production and seeded in the simulator."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1), for jitter; never for secrets."""
        ...


def later(now: Millis, delay_s: float) -> Millis:
    """Return the time ``delay_s`` seconds after ``now``."""
    return Millis(now + round(delay_s * 1000))


def is_over(end: Millis | None, now: Millis) -> bool:
    """Return whether what ends at ``end`` (``None``: never) is over at ``now``."""
    return end is not None and end <= now


def iso(moment: Millis) -> str:
    """Render a time exactly as the API does: ``YYYY-MM-DDTHH:MM:SSZ``, cut to the second (reference, §0.5)."""
    return _iso_second(moment // 1000)


@lru_cache(maxsize=TIMES.members_max)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_or_none(moment: Millis | None) -> str | None:
    """Render a time as ``iso`` does; ``None`` stays ``None``."""
    return None if moment is None else iso(moment)
