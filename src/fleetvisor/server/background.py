"""What runs beside the requests: one TaskGroup of jobs, each again and again.

A job that fails is logged and tried again after a growing pause; it never ends the server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock

_log = structlog.get_logger()
_PAUSE_MAX_S: Final = 60.0
_FRESH_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do every ``period_s`` seconds."""

    name: str
    period_s: float
    run: Callable[[], Awaitable[object]]


async def run_jobs(jobs: tuple[Job, ...], clock: Clock) -> None:
    """Run every job for ever; ends by cancellation only."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(_repeat(job, clock), name=job.name)


async def _repeat(job: Job, clock: Clock) -> None:
    failures = 0
    while True:
        pause_s = job.period_s if failures == 0 else min(_PAUSE_MAX_S, job.period_s * 2 ** min(failures, 6))
        await clock.sleep(pause_s)
        try:
            await job.run()
            failures = 0
        except Exception:  # noqa: BLE001  a job's failure must not end the server
            failures += 1
            _log.exception("job.failed", job=job.name, failures=failures)


class Tail:
    """Reads what other nodes changed, rings their bells here, and says whether that reading is current.

    With several nodes a cached answer may be trusted only while the change log was read moments ago: each reading
    sets ``bus.fresh``, and ``watch`` takes it back when readings stop.
    """

    def __init__(self, *, db: Database, bus: Bus, clock: Clock) -> None:
        """Begin with nothing trusted."""
        self._db = db
        self._bus = bus
        self._clock = clock
        self._place: tuple[int, int] | None = None
        self._read_at = -1e9
        bus.fresh = False

    async def read(self) -> int:
        """Read on from the last place, and ring; give how many events there were."""
        started = self._clock.monotonic()
        if self._place is None:
            self._place = await events.tail_start(self._db)
        count = 0
        while found := await events.tail(self._db, self._place):
            self._place = found[-1].place
            self._bus.ring({sid for event in found for sid in (event.subject_sid, event.device_sid) if sid})
            count += len(found)
        self._read_at = started
        self._bus.fresh = True
        return count

    async def watch(self) -> None:
        """Withdraw trust when the last reading is too old."""
        if self._clock.monotonic() - self._read_at > _FRESH_S:
            self._bus.fresh = False
