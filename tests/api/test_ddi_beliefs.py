"""What the server believes of a DDI device can be corrected: offered again, forgotten, said late, asked anew."""

import pytest
from tests.api.test_ddi import Board, target
from tests.api.test_update_numbers import install


async def running(hands, board):
    """Return the app that the device reports, and its status."""
    app = (await hands.get(f"/v1/Devices/{board.sid}"))["app"]
    return app["reported_sid"], app["update_status"]


async def types_of(hands, board):
    return [event["type"] for event in (await hands.get("/v1/Events", DeviceSid=board.sid))["events"]]


@pytest.fixture
async def board(server, hands):
    made = Board(server, await hands.device("press"), "press")
    await made.poll()
    return made


@pytest.mark.parametrize("way", ["again", "target again", "forget", "clear and set"])
async def test_what_a_board_reports_can_be_offered_again(hands, board, way):
    """As after it fell back to its old slot, of which nothing in DDI tells."""
    app = await hands.app("v1")
    await target(hands, board, app)
    first = await install(board)
    await target(hands, board, app)
    assert "deploymentBase" not in await board.links(), "the same target alone asks for nothing"
    match way:
        case "again":
            await hands.post("/v1/Devices/press", OfferAgain="true")
        case "target again":
            await hands.post("/v1/Devices/press", TargetApp="v1", OfferAgain="true")
        case "forget":
            await hands.post("/v1/Devices/press", ForgetReport="true")
        case _:
            await target(hands, board, None)
            await target(hands, board, app)
    assert await running(hands, board) == (None, "pending")
    assert await install(board) > first
    assert await running(hands, board) == (app["sid"], "up-to-date")
    assert (await types_of(hands, board)).count("device.report_forgotten") == 1


async def test_offering_again_needs_a_target_and_leaves_an_open_update(hands, board):
    await hands.post("/v1/Devices/press", ok=409, OfferAgain="true")
    await hands.post("/v1/Devices/press", ok=400, OfferAgain="true", TargetApp="")
    await hands.post("/v1/Devices/press", ok=400, OfferAgain="true", CancelUpdate="true")
    await target(hands, board, await hands.app("v1"))
    number = (await hands.get("/v1/Devices/press"))["update"]["number"]
    await hands.post("/v1/Devices/press", OfferAgain="true")
    assert (await hands.get("/v1/Devices/press"))["update"]["number"] == number


async def test_a_report_is_forgotten_without_an_offer_where_there_is_no_target(hands, board):
    await target(hands, board, await hands.app("v1"))
    await install(board)
    await hands.post("/v1/Devices/press", TargetApp="", ForgetReport="true")
    assert await running(hands, board) == (None, "up-to-date")
    assert not {"deploymentBase", "installedBase"} & set(await board.links())


async def test_a_download_is_being_heard_of_and_its_success_counts(server, hands, board):
    """It takes three times the time-out, and the board says nothing but that it downloads."""
    app = await hands.app("v1")
    await target(hands, board, app)
    offer = (await board.call("GET", (await board.links())["deploymentBase"])).json()
    url = offer["deployment"]["chunks"][0]["artifacts"][0]["_links"]["download"]["href"]
    await server.world.presence.flush()
    for place in range(6):
        await board.call("GET", url, ok=206, range=f"bytes={place}-{place}")
        await server.world.presence.flush()
        server.clock.advance(server.limits.report_timeout_s // 2)
        assert await server.world.updates.expire() == 0
    await board.say(1)
    assert await running(hands, board) == (app["sid"], "up-to-date")
    assert "update.not_fetched" not in await types_of(hands, board)


async def test_a_success_that_comes_late_still_says_what_runs_once(server, hands, board):
    app = await hands.app("v1")
    await target(hands, board, app)
    await board.call("GET", (await board.links())["deploymentBase"])
    await server.world.presence.flush()
    server.clock.advance(server.limits.report_timeout_s + 1)
    assert await server.world.updates.expire() == 1
    await board.say(1, finished="failure", ok=410)
    await board.say(1, "proceeding", "none", ok=410)
    assert await running(hands, board) == (None, "error")
    await board.say(1, details=["installed"])
    assert await running(hands, board) == (app["sid"], "up-to-date")
    update = (await hands.get("/v1/Devices/press"))["update"]
    assert (update["state"], update["error_code"]) == ("failed", 9)
    await board.say(1, ok=410)
    assert (await types_of(hands, board)).count("update.succeeded_late") == 1


async def test_a_late_success_is_stale_once_a_later_update_succeeded(server, hands, board):
    one, two = await hands.app("v1"), await hands.app("v2")
    await target(hands, board, one)
    await target(hands, board, two)
    server.clock.advance(server.limits.cancel_timeout_s + 1)
    assert await server.world.updates.expire() == 1
    await board.say(2)
    await board.say(1, ok=410)
    assert await running(hands, board) == (two["sid"], "up-to-date")


async def test_a_device_that_could_not_cancel_has_failed_and_gets_the_next_update(hands, board):
    one, two = await hands.app("v1"), await hands.app("v2")
    await target(hands, board, one)
    await target(hands, board, two)
    await board.say(1, "closed", "failure", ["bootloader armed"], kind="cancelAction")
    first = await hands.get(f"/v1/Devices/press/Updates/{await board.number(1)}")
    assert (first["state"], first["error_code"]) == ("failed", 99)
    assert f"/deploymentBase/{await board.number(2)}" in (await board.links())["deploymentBase"]


@pytest.mark.parametrize("finished", ["success", "failure"])
async def test_attributes_are_asked_for_after_each_update_and_on_request(hands, board, finished):
    data = {"data": {"fw": "1"}}
    await board.call("PUT", "/configData", body=data)
    assert "configData" not in await board.links()
    await target(hands, board, await hands.app("v1"))
    assert "configData" not in await board.links()
    await board.say(1, finished=finished)
    assert "configData" in await board.links()
    await board.call("PUT", "/configData", body=data)
    assert "configData" not in await board.links()
    await hands.post("/v1/Devices/press", RequestAttributes="true")
    assert "configData" in await board.links()
