"""A native device whose count of reports starts again: it is told of, and an operator can let it begin anew."""

import random

from tests.api.world import BASE


class Counter:
    """A home-made agent that chooses its journal and sequence."""

    def __init__(self, server, made):
        self.server, self.token = server, made["device_token"]
        self.journal = f"{random.getrandbits(128):032x}"

    async def report(self, sequence, running=None, journal=None):
        body = {"journal": journal or self.journal, "sequence": sequence, "running": running or {}}
        headers = {"authorization": f"Bearer {self.token}"}
        reply = await self.server.hands.http.post(f"{BASE}/device/v1/report", headers=headers, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["taken"]


async def told(hands):
    """Give what Explain and the events say of ignored reports."""
    reasons = (await hands.get("/v1/Devices/board/Explain"))["reasons"]
    counts = [reason["data"]["count"] for reason in reasons if reason["code"] == "reports_ignored"]
    events = (await hands.get("/v1/Events", Type="device.report_ignored"))["events"]
    return counts, len(events)


async def test_a_count_that_starts_again_is_told_once_and_counted(server, hands):
    board = Counter(server, await hands.device("board"))
    assert await board.report(200)
    assert not await board.report(200)  # its answer was lost: nothing is amiss
    assert await told(hands) == ([], 0)
    for sequence in (1, 2, 3):
        assert not await board.report(sequence)
    assert await told(hands) == ([3], 1)
    (event,) = (await hands.get("/v1/Events", Type="device.report_ignored"))["events"]
    assert (event["data"]["sequence"], event["data"]["last_sequence"]) == (1, 200)
    assert await board.report(201)
    assert await told(hands) == ([], 1)


async def test_an_operator_lets_a_device_begin_anew(server, hands):
    app = await hands.app("v1")
    board = Counter(server, await hands.device("board"))
    await board.report(200)
    assert not await board.report(1, {"app": app["sid"]})
    await hands.post("/v1/Devices/board", BeginAnew="true")
    assert await told(hands) == ([], 1)
    assert await board.report(1, {"app": app["sid"]})
    assert (await hands.get("/v1/Devices/board"))["app"]["reported_sid"] == app["sid"]
    assert not await board.report(1)
    assert await board.report(2)


async def test_a_new_journal_begins_anew_by_itself_and_the_old_one_is_over(server, hands):
    board = Counter(server, await hands.device("board"))
    await board.report(200)
    assert await board.report(1, journal="f" * 32)
    assert not await board.report(201)
    assert await told(hands) == ([1], 1)
