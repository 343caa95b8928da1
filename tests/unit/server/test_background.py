"""Background jobs go on whatever happens, and the reading of the change log says when it is not current."""

import asyncio
import contextlib

import pytest
import structlog

from fleetvisor.blobs.store import BlobFault
from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import DatabaseBusy, DatabaseFault, DatabaseUnfit
from fleetvisor.db.sqlite import memory
from fleetvisor.features.events import store as events
from fleetvisor.obs.health import Health
from fleetvisor.reality import RealClock
from fleetvisor.server.background import Job, Tail, pause_after, run_jobs


class FakeClock(RealClock):
    """Time that passes only in sleeps, which are noted."""

    def __init__(self):
        self.time = 0.0
        self.pauses = []

    def monotonic(self):
        return self.time

    async def sleep(self, delay_s):
        self.pauses.append(delay_s)
        self.time += delay_s
        await asyncio.sleep(0)


async def run_until(done, jobs, clock, failed=lambda _: None):
    running = asyncio.ensure_future(run_jobs(jobs, clock, failed))
    while not done():
        await asyncio.sleep(0)
        assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_job_that_fails_is_tried_again_and_hurts_no_other():
    runs = {"bad": 0, "good": 0}
    failures = []

    async def bad():
        runs["bad"] += 1
        if runs["bad"] < 4:
            raise DatabaseFault("away")

    async def good():
        runs["good"] += 1

    clock = FakeClock()
    await run_until(lambda: runs["bad"] == 5, (Job("bad", 1.0, bad), Job("good", 1.0, good)), clock, failures.append)
    assert failures == ["bad", "bad", "bad"]
    assert runs["good"] >= 5
    assert [pause for pause in clock.pauses if pause > 1.0] == [2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("error", "traced"),
    [
        (DatabaseUnfit("disk_full", "x"), False),
        (DatabaseBusy("away"), False),
        (BlobFault("y"), False),
        (KeyError("z"), True),
    ],
)
async def test_a_failure_that_is_not_the_jobs_own_is_told_without_a_traceback(error, traced):
    runs = []

    async def bad():
        runs.append(1)
        raise error

    with structlog.testing.capture_logs() as lines:
        await run_until(lambda: len(runs) == 2, (Job("bad", 1.0, bad),), FakeClock(), lambda _job: None)
    assert ("exc_info" in lines[0], lines[0].get("reason")) == (traced, None if traced else str(error))


async def test_a_failure_that_cannot_be_told_does_not_end_the_job():
    runs = []

    async def bad():
        runs.append(1)
        raise DatabaseFault("away")

    def failed(_):
        raise OSError("disk full")

    await run_until(lambda: len(runs) == 3, (Job("bad", 1.0, bad),), FakeClock(), failed)


async def test_a_job_whose_work_was_cancelled_by_others_is_tried_again():
    runs, failures = [], []

    async def bad():
        runs.append(1)
        waited = asyncio.get_running_loop().create_future()
        waited.cancel()
        await waited

    await run_until(lambda: len(runs) == 3, (Job("bad", 1.0, bad),), FakeClock(), failures.append)
    assert failures[:2] == ["bad", "bad"]


async def test_the_heart_of_a_job_that_fails_beats_and_of_one_that_hangs_does_not():
    clock = FakeClock()
    health = Health(clock=clock, check=lambda: None)
    rounds = []

    async def bad():
        rounds.append(1)
        raise DatabaseFault("away")

    async def hang():
        await asyncio.Event().wait()

    jobs = (Job("bad", 1.0, bad), Job("hang", 1.0, hang))
    running = asyncio.ensure_future(run_jobs(jobs, clock, health=health))
    while clock.time < 60:
        await asyncio.sleep(0)
    assert health.late() == ["hang"]
    assert set(health.ages()) == {"bad", "hang"}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_heart_is_late_three_periods_of_its_own_job_after_the_last_beat():
    clock, woken = FakeClock(), asyncio.Event()

    async def sleep(_):
        await woken.wait()

    async def hang():
        await asyncio.Event().wait()

    clock.sleep = sleep
    health = Health(clock=clock, check=lambda: None)
    running = asyncio.ensure_future(run_jobs((Job("seldom", 100.0, hang),), clock, health=health))
    await asyncio.sleep(0.01)
    for began in (0, 299):  # it waits, then it runs
        clock.time = began + 299.0
        assert health.late() == []
        clock.time = began + 301.0
        assert health.late() == ["seldom"]
        clock.time = 299.0
        woken.set()
        await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(
    ("failures", "period_s", "pause_s"),
    [(0, 0.5, 0.5), (1, 0.5, 1.0), (10, 0.5, 5.0), (1, 60.0, 60.0), (3, 3600.0, 3600.0), (100, 10.0, 60.0)],
)
def test_the_pause_after_failures_grows_within_bounds(failures, period_s, pause_s):
    assert pause_after(failures, period_s) == pause_s


@pytest.fixture
async def db():
    found = memory()
    yield found
    await found.close()


async def happen(db, subject, device=None):
    await db.write(
        lambda tx: events.append(tx, account_sid="AC1", type="x", subject_sid=subject, device_sid=device, now=1)
    )


async def test_the_tail_rings_for_what_happened_since_it_began_and_once_only(db):
    bus, clock = Bus(), FakeClock()
    heard = []
    bus.listen(heard.append)
    await happen(db, "UV0")
    tail = Tail(db=db, bus=bus, clock=clock)
    assert await tail.read() == 0
    await happen(db, "KA1", "UV1")
    await happen(db, "UV2")
    assert await tail.read() == 2
    assert await tail.read() == 0
    assert frozenset().union(*heard) == {"KA1", "UV1", "UV2"}


async def test_memory_is_trusted_only_while_the_reading_is_current(db):
    bus, clock = Bus(), FakeClock()
    tail = Tail(db=db, bus=bus, clock=clock)
    assert not bus.fresh
    await tail.read()
    await tail.watch()
    assert bus.fresh
    clock.time += 2.0
    await tail.watch()
    assert not bus.fresh
    await tail.read()
    assert bus.fresh
