"""A server is unfit when a heartbeat misses three periods or its database cannot be read, and else at most degraded."""

import pytest

from fleetvisor.obs.health import PERIOD_MIN_S, Health, beat, belong
from fleetvisor.reality import RealClock


class Hands(RealClock):
    """A clock that is moved by hand."""

    def __init__(self):
        self.time = 100.0

    def monotonic(self):
        return self.time


async def well():
    """The database answers."""


@pytest.fixture
def clock():
    return Hands()


async def test_a_heartbeat_that_misses_three_periods_makes_the_server_unfit(clock):
    health = Health(clock=clock, check=well)
    heart = health.heart("sweep")
    heart.expect(60.0)
    clock.time += 180
    assert (await health.look()).faults == ()
    assert health.well
    clock.time += 1
    assert (await health.look()).faults == ("The background job sweep has not come round for 181 s.",)
    assert not health.well
    heart.beat()
    assert (await health.look()).faults == ()


async def test_a_short_period_counts_as_five_seconds(clock):
    health = Health(clock=clock, check=well)
    health.heart("rollouts").expect(0.5)
    clock.time += 3 * PERIOD_MIN_S
    assert (await health.look()).faults == ()
    clock.time += 0.1
    assert len((await health.look()).faults) == 1


async def test_work_that_takes_long_beats_as_it_goes_on(clock):
    health = Health(clock=clock, check=well)
    heart = health.heart("rollouts")
    beat()
    belong(heart)
    clock.time += 1000
    beat()
    assert health.ages() == {"rollouts": 0.0}


async def test_a_database_that_cannot_be_read_makes_it_unfit_and_is_asked_once_a_second(clock):
    asked = []

    async def check():
        asked.append(clock.time)
        if len(asked) == 1:
            raise OSError("gone")

    health = Health(clock=clock, check=check)
    for _ in range(3):
        assert (await health.look()).faults == ("The database cannot be read (OSError).",)
    assert len(asked) == 1
    clock.time += 1
    assert (await health.look()).faults == ()


async def test_what_else_is_wrong_degrades_it_only(clock):
    health = Health(clock=clock, check=well)
    found = {"database": "disk_full"}
    health.listen(lambda: found)
    report = await health.look()
    assert (report.faults, report.degraded) == ((), {"database": "disk_full"})
