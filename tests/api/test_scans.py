"""What clients let the server look through never keeps others waiting for their safety, nor another account for its turn."""

import asyncio
import time

import msgspec
import pytest
from tests.api.rollout_world import Fleet
from tests.api.world import BASE

from fleetvisor.db import lanes
from fleetvisor.features.devices import counting
from fleetvisor.server.background import Job, run_jobs

ENDLESS = """WITH RECURSIVE n (i) AS (SELECT CAST(1 AS INTEGER) UNION ALL SELECT i + 1 FROM n WHERE i < 2000000000)
    SELECT count(*) AS number FROM n WHERE i > :least"""
SAFE_S = 2.0

real_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


class Number(msgspec.Struct, frozen=True):
    number: int


@pytest.fixture
def endless(monkeypatch):
    """Every count looks through devices for ever."""

    async def counts(db, _selection, _by):
        await db.scan(Number, ENDLESS, {"least": 0})

    monkeypatch.setattr(counting, "counts", counts)  # a scan that lasts for as long as the test wants


async def viewers(server, count):
    """Give a viewer of each of so many other accounts."""
    found = []
    for _ in range(count):
        account = await server.stranger()
        key = (await account.post("/v1/Keys", ok=201, Role="viewer")).json
        found.append((key["sid"], key["secret"]))
    return found


class Crowd:
    """Requests that count, and go on until the test ends."""

    def __init__(self, server, credentials, each, expected=0):
        self.expected = expected
        count = server.hands.http.get
        self.tasks = [
            asyncio.ensure_future(count(f"{BASE}/v1/DeviceCounts", params={"Selector": "!x"}, auth=auth))
            for auth in credentials
            for _ in range(each)
        ]

    async def __aenter__(self):
        """Wait until the others stand in a line."""
        await asyncio.sleep(0.5)

        async def refused():
            return self.refused >= self.expected

        await until(refused)
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def refused(self):
        answers = [task.result() for task in self.tasks if task.done()]
        assert all(answer.status_code == 429 and "retry-after" in answer.headers for answer in answers)
        return len(answers)


async def until(condition):
    """Wait until a condition holds; give how long that took."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.alone
@real_engines
async def test_a_guard_and_an_abort_act_within_two_seconds_while_200_counts_are_under_way(server, endless):
    fleet = await Fleet.make(server, 6)
    watched = await viewers(server, 41)
    ticking = asyncio.ensure_future(run_jobs((Job("rollouts", 0.5, server.world.rollouts.tick),), server.clock))
    try:
        rollout = await fleet.start(Waves="2,100%", MinimumSample=1, Limit="1%", Confidence="60")
        async with Crowd(server, watched[:40], 5) as crowd, Crowd(server, watched[40:], 20, expected=15) as one:
            assert (crowd.refused, one.refused) == (0, 15)
            for board in fleet.boards.values():
                await board.follow("failed")

            async def stopped():
                return (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}"))["state"] == "stopped"

            assert await until(stopped) < SAFE_S
            other = await fleet.start(Waves="100%")

            async def offered():
                return [board for board in fleet.boards.values() if (await board.desired())["app"]["update"]]

            await until(offered)
            await fleet.act(other, "abort")

            async def taken_back():
                return not await offered()

            assert await until(taken_back) < SAFE_S
            assert (crowd.refused, one.refused) == (0, 15)
    finally:
        ticking.cancel()
        await asyncio.wait({ticking})


@real_engines
async def test_a_list_is_no_scan_and_a_count_that_nobody_waits_for_ends(server, endless, monkeypatch):
    await server.hands.device("a", Labels="x=1")
    for _ in range(30):
        await server.hands.device()
    async with Crowd(server, await viewers(server, 1), 5), Crowd(server, [server.hands.auth], 5):
        found = (await server.hands.get("/v1/Devices", Selector="x=1", PageSize="1000"))["devices"]
        assert [device["unique_name"] for device in found] == ["a"]
    monkeypatch.undo()
    with lanes.use("scans"):  # they are free again
        async with asyncio.timeout(5):
            some = [server.world.db.scan(Number, "SELECT 1 AS number WHERE 0 = :x", {"x": 0}) for _ in range(4)]
            assert [rows[0].number for rows in await asyncio.gather(*some)] == [1] * 4


@real_engines
async def test_a_count_that_takes_too_long_is_503(engine, tmp_path, endless):
    from tests.api.world import serving

    async with serving(engine, tmp_path, scan_time_s=1) as server:
        began = time.monotonic()
        reply = await server.hands.get("/v1/DeviceCounts", ok=503, Selector="!x")
        assert time.monotonic() - began < 5
        assert reply.json["code"] == 20503
        assert "retry-after" in reply.headers


@real_engines
async def test_statements_of_jobs_wait_for_no_scan(server, endless):
    """Nor does anything else that reads or writes."""

    async def body(tx):
        return await tx.one(Number, "SELECT 1 AS number", {})

    async with Crowd(server, await viewers(server, 4), 5):
        async with asyncio.timeout(2):
            with lanes.use("jobs"):
                assert await server.world.db.scan(Number, "SELECT 1 AS number WHERE 0 = :x", {"x": 0}) == [Number(1)]
                assert await server.world.db.write(body) == Number(1)
            assert await server.world.db.scan(Number, "SELECT 1 AS number WHERE 0 = :x", {"x": 0}) == [Number(1)]
            assert await server.world.db.write(body) == Number(1)
