"""What runs beside the requests: one TaskGroup of jobs, each again and again.

A job that fails is logged and tried again after a growing pause; it never ends the server, nor the other jobs, also
when its failure cannot be told. Each has a heartbeat (``obs/health``). Deliberately knows no job but the reading of the
change log: ``server/build`` and ``server/run`` name them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from fleetvisor.blobs.store import BlobFault
from fleetvisor.bus.bus import Bus
from fleetvisor.db import lanes
from fleetvisor.db.database import Database, DatabaseBusy
from fleetvisor.features.accounts.tenants import bells_of
from fleetvisor.features.events.tail import Reader
from fleetvisor.ground.clock import Clock
from fleetvisor.obs.health import Health, Heart, beat, belong
from fleetvisor.server.files import StartFault

_log = structlog.get_logger()
_PAUSE_MAX_S: Final = 60.0
_PERIODS_MAX: Final = 10
_DOUBLINGS_MAX: Final = 6
_FRESH_S: Final = 1.5
#: What is not the job's own fault: its sentence is enough.
_TOLD: Final = (StartFault, DatabaseBusy, BlobFault)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do every ``period_s`` seconds."""

    name: str
    period_s: float
    run: Callable[[], Awaitable[object]]


def _uncounted(_job: str) -> None:
    """Count nothing."""


async def run_jobs(
    jobs: tuple[Job, ...],
    clock: Clock,
    failed: Callable[[str], None] = _uncounted,
    health: Health | None = None,
) -> None:
    """Run every job for ever; ends by cancellation only. ``failed`` is called with the name of a job that failed."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            heart = Heart(clock) if health is None else health.heart(job.name)
            tasks.create_task(_repeat(job, clock, failed, heart), name=job.name)


async def _repeat(job: Job, clock: Clock, failed: Callable[[str], None], heart: Heart) -> None:
    belong(heart)
    lanes.begin("jobs")
    failures = 0
    while True:
        pause_s = pause_after(failures, job.period_s)
        heart.expect(pause_s)
        await clock.sleep(pause_s)
        heart.beat()
        try:
            await job.run()
            failures = 0
        except asyncio.CancelledError as error:
            if _is_asked_to_end():
                raise
            failures += 1  # what the job waited for was cancelled, not the job: without this it would end unseen
            _tell(job, failures, failed, error)
        except Exception as error:  # noqa: BLE001  a job's failure must not end the server
            failures += 1
            _tell(job, failures, failed, error)


def _is_asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _tell(job: Job, failures: int, failed: Callable[[str], None], error: BaseException) -> None:
    """Count and log a failure. What fails here must not end the job that it is about."""
    try:
        failed(job.name)
        why = {"reason": str(error)} if isinstance(error, _TOLD) else {"exc_info": error}
        _log.error("job.failed", job=job.name, failures=failures, **why)
    except Exception:  # noqa: BLE001
        with contextlib.suppress(Exception):
            _log.error("job.untold", job=job.name, failures=failures)


def pause_after(failures: int, period_s: float) -> float:
    """Return the pause before the next run: the period, doubled for each failure in a row, within bounds.

    A frequent job is tried again at least every ten periods: the other nodes' changes must not wait for minutes
    once the database is back.
    """
    if failures == 0:
        return period_s
    most_s = max(period_s, min(_PAUSE_MAX_S, _PERIODS_MAX * period_s))
    return min(most_s, period_s * 2 ** min(failures, _DOUBLINGS_MAX))


class Tail:
    """Reads what other nodes changed, rings their bells here, and says whether that reading is current.

    An event rings when it is committed; a transaction that stays open holds back no other one's.

    With several nodes a cached answer may be trusted only while the change log was read moments ago: each reading
    sets ``bus.fresh``, and ``watch`` takes it back when readings stop.
    """

    def __init__(self, *, db: Database, bus: Bus, clock: Clock) -> None:
        """Begin with nothing trusted."""
        self._bus = bus
        self._clock = clock
        self._log = Reader(db)
        self._read_at = -1e9
        bus.age = self.age
        bus.fresh = False
        bus.alone = False

    async def read(self) -> int:
        """Read on from the last place, and ring; return how many events there were."""
        started = self._clock.monotonic()
        count = 0
        async for found in self._log.pages():
            self._bus.ring({bell for event in found for bell in bells_of(event)})
            count += len(found)
            beat()
        self._read_at = started
        self._bus.fresh = True
        return count

    def age(self) -> float:
        """Return the seconds since the last reading that came to its end began: what is older rang here."""
        return self._clock.monotonic() - self._read_at

    async def watch(self) -> None:
        """Withdraw trust when the last reading is too old."""
        if self.age() > _FRESH_S:
            self._bus.fresh = False
