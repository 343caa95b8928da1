"""Counting in memory, with bounds on the memory: failures by the minute, and requests by the second.

Each node counts for itself. A table that is full forgets what is oldest. Deliberately knows no request: the callers
say what is counted.
"""

from typing import Final

from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import TooManyRequests
from fleetvisor.ground.memory import FAILED_PROOFS, REQUEST_RATES

Header = tuple[bytes, bytes]

_WINDOW_S: Final = 60.0


class RateLimited(TooManyRequests):
    """Too many requests."""

    def __init__(self, detail: str, *, per_s: int, burst: int) -> None:
        """Keep the rate that was exceeded, at least one a second, for the headers of the answer."""
        super().__init__(detail, retry_after_s=1)
        self.headers: tuple[Header, ...] = (
            (b"ratelimit-policy", b'"requests";q=%d;w=%d' % (burst, max(1, burst // per_s))),
            (b"ratelimit", b'"requests";r=0;t=1'),
        )


class Windows:
    """Counts things by key, which has a fixed size; a count lasts a minute from its first."""

    def __init__(self, clock: Clock, rows_max: int = FAILED_PROOFS.members_max) -> None:
        """Start with nothing counted."""
        self._clock = clock
        self._rows_max = rows_max
        self._rows: dict[str | bytes, tuple[float, int]] = {}

    def __len__(self) -> int:
        """Return how many counts are kept."""
        return len(self._rows)

    def count(self, key: str | bytes) -> tuple[int, int]:
        """Count one more; return how many there were in this minute, and how many seconds of it are left."""
        now = self._clock.monotonic()
        began, count = self._rows.get(key, (now, 0))
        if now - began >= _WINDOW_S:
            began, count = now, 0
        if count == 0:
            self._make_room(now)  # of this key, too: the rows lie in the order in which they began
        self._rows[key] = (began, count + 1)
        return count + 1, max(1, round(began + _WINDOW_S - now))

    def _make_room(self, now: float) -> None:
        while self._rows:
            oldest = next(iter(self._rows))
            if len(self._rows) < self._rows_max and now - self._rows[oldest][0] < _WINDOW_S:
                return
            del self._rows[oldest]


class Buckets:
    """Lets ``burst`` requests of a key through at once, and ``per_s`` each second; a rate of 0 is no limit."""

    def __init__(self, clock: Clock, *, per_s: int, burst: int, rows_max: int = REQUEST_RATES.members_max) -> None:
        """Start with every bucket full."""
        self._clock = clock
        self._per_s = per_s
        self._burst = max(burst, 1)
        self._rows_max = rows_max
        self._rows: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return how many buckets are kept."""
        return len(self._rows)

    def take(self, key: str, what: str) -> None:
        """Take one from a bucket. Raises ``RateLimited``; ``what`` is whose rate it is, for the detail."""
        if self._per_s <= 0:
            return
        now = self._clock.monotonic()
        left, at = self._rows.pop(key, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_s)
        if len(self._rows) >= self._rows_max:
            del self._rows[next(iter(self._rows))]
        if left < 1:
            self._rows[key] = (left, now)
            detail = f"{what} may send {self._per_s} requests per second, and bursts of {self._burst}."
            raise RateLimited(detail, per_s=self._per_s, burst=self._burst)
        self._rows[key] = (left - 1, now)
