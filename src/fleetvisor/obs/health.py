"""Whether the server is well: the heartbeat of each background job, whether its database answers, what degrades it.

A job's heart beats each time it comes round, also when a run failed: then it is tried again. Work that takes long
beats as it goes on (``beat``). A server is unfit when a heartbeat misses three periods or the database cannot be
read; what else is wrong degrades it. Spec: ``docs/reference/rest-api.md`` (``GET /healthz``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from fleetvisor.ground.clock import Clock

PERIODS_MISSED: Final = 3
PERIOD_MIN_S: Final = 5.0  # a busy machine may hold a job up for seconds: shorter periods count as this
_CHECK_S: Final = 5.0
_CHECKED_S: Final = 1.0

Reasons = Callable[[], Mapping[str, str]]


class Heart:
    """The heartbeat of one job."""

    def __init__(self, clock: Clock) -> None:
        """Begin with a beat."""
        self._clock = clock
        self._beat_s = clock.monotonic()
        self._period_s = PERIOD_MIN_S

    def beat(self) -> None:
        """Note that the job goes on."""
        self._beat_s = self._clock.monotonic()

    def expect(self, period_s: float) -> None:
        """Note that the job goes on, and comes round again in ``period_s`` seconds."""
        self._period_s = max(period_s, PERIOD_MIN_S)
        self.beat()

    @property
    def age_s(self) -> float:
        """How long ago the last beat was."""
        return max(0.0, self._clock.monotonic() - self._beat_s)

    @property
    def late(self) -> bool:
        """Whether it missed three periods."""
        return self.age_s > PERIODS_MISSED * self._period_s


_beating: ContextVar[Heart | None] = ContextVar("heart", default=None)


def beat() -> None:
    """Note that the job that this code runs for goes on; outside of a job this does nothing."""
    heart = _beating.get()
    if heart is not None:
        heart.beat()


def belong(heart: Heart) -> None:
    """Make ``heart`` the one that ``beat`` beats in this task."""
    _beating.set(heart)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``faults`` are sentences that make the server unfit; ``degraded`` is what is wrong beside."""

    faults: tuple[str, ...] = ()
    degraded: Mapping[str, str] = field(default_factory=dict[str, str])
    ages_s: Mapping[str, float] = field(default_factory=dict[str, float])


class Health:
    """The health of one server."""

    def __init__(self, *, clock: Clock, check: Callable[[], Awaitable[None]]) -> None:
        """Keep ``check``, which raises when the database does not answer."""
        self._clock = clock
        self._check = check
        self._hearts: dict[str, Heart] = {}
        self._sources: list[Reasons] = []
        self._checked_s: float | None = None
        self._fault: str | None = None
        self._checking: asyncio.Lock = asyncio.Lock()

    def heart(self, job: str) -> Heart:
        """Return a new heart for a job, in place of the one it had."""
        made = self._hearts[job] = Heart(self._clock)
        return made

    def listen(self, source: Reasons) -> None:
        """Ask ``source`` at each look what degrades the server: reasons by what they are about."""
        self._sources.append(source)

    def ages(self) -> dict[str, float]:
        """Return how long ago each job's heart beat, in seconds; may be called on any thread."""
        return {job: round(heart.age_s, 1) for job, heart in self._hearts.copy().items()}

    def late(self) -> list[str]:
        """Return the jobs whose heartbeat missed three periods; may be called on any thread."""
        return [job for job, heart in self._hearts.copy().items() if heart.late]

    @property
    def well(self) -> bool:
        """Whether no heartbeat is late and the database answered when it was last asked; for any thread."""
        return self._fault is None and not self.late()

    async def look(self) -> Report:
        """Look at everything. The database is asked at most once a second, however many look."""
        faults = [
            f"The background job {job} has not come round for {self._hearts[job].age_s:.0f} s." for job in self.late()
        ]
        database = await self._look_at_database()
        if database is not None:
            faults.append(database)
        degraded: dict[str, str] = {}
        for source in self._sources:
            degraded |= source()
        return Report(tuple(faults), degraded, self.ages())

    async def _look_at_database(self) -> str | None:
        async with self._checking:  # who waited finds the answer
            now_s = self._clock.monotonic()
            if self._checked_s is not None and now_s - self._checked_s < _CHECKED_S:
                return self._fault
            try:
                async with self._clock.timeout(_CHECK_S):
                    await self._check()
                self._fault = None
            except TimeoutError:
                self._fault = f"The database does not answer within {_CHECK_S:.0f} s."
            except Exception as error:  # noqa: BLE001  (whatever it is, it is told)
                self._fault = f"The database cannot be read ({type(error).__name__})."
            self._checked_s = self._clock.monotonic()
            return self._fault
