"""Scans of clients: one of an account at a time, a few that wait, an end for each, and none that another waits for."""

import asyncio

import pytest

from fleetvisor.db import lanes
from fleetvisor.ground.errors import TooManyRequests, Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.reality import RealClock
from fleetvisor.web.answers import Answer
from fleetvisor.web.requests import Disconnected, Request
from fleetvisor.web.scans import Scans


def request(gone=None):
    """A request without a body, whose client leaves when ``gone`` is set."""
    first = True

    async def receive():
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, clock=RealClock())


class Work:
    """Scans that end when the test says so; who runs now, and who was ended before its time."""

    def __init__(self):
        self.running = []
        self.ended = []
        self.go = asyncio.Event()

    def of(self, name):
        async def work():
            self.running.append(name)
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.ended.append(name)
                raise
            finally:
                self.running.remove(name)
            return Answer(200, name.encode())

        return work


@pytest.fixture
def work():
    return Work()


def scans(**limits):
    return Scans(clock=RealClock(), limits=Limits(**limits))


async def begun(*coroutines):
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


async def test_an_account_has_one_scan_at_a_time_four_that_wait_and_the_next_is_refused(work):
    some = scans()
    tasks = await begun(*(some.run("AC1", request(), work.of(f"a{n}")) for n in range(5)))
    assert work.running == ["a0"]
    with pytest.raises(TooManyRequests) as refused:
        await some.run("AC1", request(), work.of("a5"))
    assert refused.value.retry_after_s == 5
    other = await begun(some.run("AC2", request(), work.of("b")))
    assert work.running == ["a0", "b"]
    work.go.set()
    assert [(await task).body for task in (*tasks, *other)] == [b"a0", b"a1", b"a2", b"a3", b"a4", b"b"]
    assert some._lines == {}


async def test_a_scan_ends_when_its_client_leaves_and_the_next_begins(work):
    some, gone = scans(), asyncio.Event()
    leaving, staying = await begun(
        some.run("AC1", request(gone), work.of("leaves")), some.run("AC1", request(), work.of("stays"))
    )
    gone.set()
    with pytest.raises(Disconnected):
        await leaving
    await asyncio.sleep(0)
    assert (work.ended, work.running) == (["leaves"], ["stays"])
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert work.running == []
    assert some._lines == {}


async def test_one_that_waits_and_whose_client_leaves_makes_room(work):
    some, gone = scans(), asyncio.Event()
    tasks = await begun(some.run("AC1", request(), work.of("a")), some.run("AC1", request(gone), work.of("leaves")))
    gone.set()
    with pytest.raises(Disconnected):
        await tasks[1]
    more = await begun(*(some.run("AC1", request(), work.of(f"b{n}")) for n in range(4)))
    assert work.running == ["a"]
    work.go.set()
    await asyncio.gather(tasks[0], *more)


async def test_a_scan_ends_when_its_time_is_over_also_when_it_only_waited(work):
    some = scans(scan_time_s=0.05)
    tasks = await begun(*(some.run("AC1", request(), work.of(f"a{n}")) for n in range(3)))
    for task in tasks:
        with pytest.raises(Unavailable, match="narrower selector"):
            await task
    assert work.running == []


async def test_scans_use_their_own_lane_and_what_they_raise_comes_out():
    async def work():
        assert lanes.current() == "scans"
        raise LookupError("told")

    with pytest.raises(LookupError, match="told"):
        await scans().run("AC1", request(), work)
    assert lanes.current() == "requests"
