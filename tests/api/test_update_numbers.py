"""Update numbers are what a board remembers: none comes back, and a success of a board that only remembers is told of."""

import pytest
from tests.api.test_ddi import Board
from tests.api.world import FIRST_NUMBER


async def install(board):
    """Fetch what is offered and close it with success; give its number."""
    offer = (await board.call("GET", (await board.links())["deploymentBase"])).json()
    for artifact in offer["deployment"]["chunks"][0]["artifacts"]:
        await board.call("GET", artifact["_links"]["download"]["href"])
    await board.say(int(offer["id"]))
    return int(offer["id"])


async def born(server, name, app, **form):
    """Register a board, and target ``app``."""
    board = Board(server, await server.hands.device(name, **form), name)
    await server.hands.post(f"/v1/Devices/{board.sid}", TargetApp=app)
    return board


async def test_the_numbers_of_a_removed_device_do_not_come_back_under_its_name_or_sid(server, hands):
    """All in one second, in which the seconds alone would not tell them apart."""
    await hands.app("v1")
    first = await born(server, "press", "v1")
    had = [await install(first)]
    await hands.app("v2")
    await hands.post("/v1/Devices/press", TargetApp="v2")
    had.append(await install(first))
    await hands.delete("/v1/Devices/press")
    second = await born(server, "press", "v1")
    had.append(await install(second))
    await hands.delete("/v1/Devices/press")
    third = await born(server, "press", "v1", Sid=first.sid)
    had.append(await install(third))
    assert had == list(range(FIRST_NUMBER, FIRST_NUMBER + 4))


async def test_numbers_rise_through_a_rollout_as_they_do_for_a_direct_target(server, hands):
    await hands.app("v1")
    board = await born(server, "press", "v1")
    first = await install(board)
    await hands.delete("/v1/Devices/press")
    board = Board(server, await hands.device("press"), "press")
    rollout = (await hands.post("/v1/Rollouts", ok=201, App="v1", Selector="name=press", Waves="100%")).json
    await hands.post(f"/v1/Rollouts/{rollout['sid']}", Action="start")
    for _ in range(9):
        await server.world.rollouts.tick()
    assert await install(board) == first + 1


async def test_a_restored_server_gives_no_number_that_was_given_after_the_backup(server, hands):
    """The copy knows nothing of the updates since; the boards do."""
    await hands.app("v1")
    board = await born(server, "press", "v1")
    had = await install(board)

    async def restore(tx):
        for table in ("update_numbers", "updates"):
            await tx.run(f"DELETE FROM {table} WHERE device_sid = :sid", {"sid": board.sid})
        await tx.run("UPDATE assignments SET last_number = NULL, reported_hash = NULL, target_hash = NULL", {})

    await server.world.db.write(restore)
    server.clock.advance(1)
    await hands.app("v2")
    await hands.post("/v1/Devices/press", TargetApp="v2")
    assert await install(board) == had + 1


@pytest.mark.parametrize("before", [-1, 61 * 366 * 86400])
async def test_a_clock_that_is_wrong_does_not_count(server, hands, before):
    server.clock.advance(before)
    await hands.app("v1")
    assert await install(await born(server, "press", "v1")) == 1


async def test_a_success_of_a_board_that_fetched_nothing_is_told_of(server, hands):
    """As a board does that remembers the number: it fetches the offer, knows its id, and reports success."""
    await hands.app("v1")
    board = await born(server, "press", "v1")
    await board.call("GET", (await board.links())["deploymentBase"])
    await board.say(1)
    types = [event["type"] for event in (await hands.get("/v1/Events", DeviceSid=board.sid))["events"]]
    assert types[:3] == ["device.reported", "update.not_fetched", "update.succeeded"]
    reasons = (await hands.get("/v1/Devices/press/Explain"))["reasons"]
    (reason,) = [reason for reason in reasons if reason["code"] == "not_fetched"]
    assert reason["data"] == {"number": FIRST_NUMBER, "app": "v1"}


async def test_a_success_after_a_download_is_not(server, hands):
    await hands.app("v1")
    board = await born(server, "press", "v1")
    await install(board)
    types = [event["type"] for event in (await hands.get("/v1/Events", DeviceSid=board.sid))["events"]]
    assert "update.not_fetched" not in types
    shown = (await hands.get("/v1/Devices/press"))["update"]
    assert shown["date_fetched"] == shown["date_updated"]


async def test_an_update_is_found_by_its_place_too(server, hands):
    for name in ("v1", "v2"):
        await hands.app(name)
    board = await born(server, "press", "v1")
    numbers = [await install(board)]
    await hands.post("/v1/Devices/press", TargetApp="v2")
    numbers.append(await install(board))
    for place, number in enumerate(numbers, 1):
        for ref in (place, number):
            found = (await hands.get(f"/v1/Devices/press/Updates/{ref}")).json
            assert found["number"] == number
            assert found == (await hands.get(f"/v1/Devices/press/Updates/{number}")).json
    await hands.get("/v1/Devices/press/Updates/3", ok=404)
    await hands.get("/v1/Devices/press/Updates/0", ok=404)
    await hands.get("/v1/Devices/press/Updates/100001", ok=404)
