"""Rollouts and devices that are asked before an update is taken from them: who counts what they answer."""

import pytest
from tests.api.rollout_world import Fleet
from tests.api.test_ddi import Board


async def asked(server):
    """Let one rollout offer v2 to a DDI device, a newer one take it with v3, and the newest want v2 again."""
    hands = server.hands
    await hands.app("v2"), await hands.app("v3")
    board = Board(server, await hands.device("d0"))
    await board.poll()
    fleet = Fleet(server, None, None, [])
    rollouts = []
    for app in ("v2", "v3", "v2"):
        server.clock.advance(1)
        rollouts.append(await fleet.start(App=app, Waves="100%"))
    assert "cancelAction" in await board.links()
    [row] = await fleet.members(rollouts[2])
    assert (row["state"], row["update_number"]) == ("updating", None)
    return fleet, board, rollouts


async def ended(fleet, rollout):
    """Let time pass until the rollout is over; give it."""
    for _ in range(5):
        fleet.server.clock.advance(40)
        rollout = await fleet.tick(rollout)
    assert rollout["date_ended"]
    return rollout


@pytest.mark.parametrize("answer", ["agrees", "refuses", "is done already"])
async def test_an_update_asked_back_counts_for_the_rollout_that_wants_its_app_now(server, answer):
    fleet, board, (first, second, last) = await asked(server)
    match answer:
        case "agrees":
            await board.say(1, kind="cancelAction")
            await board.say(2)
        case "refuses":
            await board.say(1, "rejected", kind="cancelAction")
            await board.say(1)
        case _:
            await board.say(1)
    shown = await ended(fleet, last)
    assert (shown["state"], shown["counts"]["succeeded"]) == ("completed", 1)
    [row] = await fleet.members(last)
    assert row["update_number"] == await board.number(2 if answer == "agrees" else 1)
    for other in (first, second):
        assert (await fleet.get(other))["counts"]["left"] == 1
    assert "deploymentBase" not in await board.links()


async def test_a_failure_of_an_update_asked_back_counts_for_the_rollout_that_wants_its_app_now(server):
    fleet, board, (first, _, last) = await asked(server)
    await board.say(1, finished="failure")
    assert (await fleet.tick(last))["counts"]["failed"] == 1
    assert (await fleet.get(first))["counts"]["left"] == 1


@pytest.mark.parametrize("answer", ["agrees", "refuses"])
async def test_an_aborted_rollout_wants_nothing_of_a_device_that_has_yet_to_answer(server, answer):
    fleet, board, (*_, last) = await asked(server)
    await fleet.act(last, "abort")
    shown = await fleet.tick(last)
    assert (shown["state"], shown["counts"]["canceled"], shown["waits_for"]) == ("aborted", 1, None)
    if answer == "agrees":
        await board.say(1, kind="cancelAction")
    else:
        await board.say(1, "rejected", kind="cancelAction")
        await board.say(1)
    assert (await fleet.tick(last))["counts"]["canceled"] == 1
    device = (await fleet.hands.get(f"/v1/Devices/{board.sid}")).json
    assert device["update"] is None or device["update"]["state"] in {"canceled", "succeeded"}
    assert "deploymentBase" not in await board.links()
