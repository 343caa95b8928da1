"""Penalties: what counts as a failure of an app, whatever a device speaks and whoever told it; and what lifts them."""

import asyncio

from tests.api.rollout_world import Fleet
from tests.api.test_ddi import Board as DdiBoard


async def penalties(hands, sid):
    found = (await hands.get(f"/v1/Devices/{sid}/Penalties")).json["penalties"]
    return [(row["app_sid"], row["failures"], row["held"]) for row in found]


async def revert(board, old):
    """Take the app that is desired, and go back to the old one."""
    assert await board.follow()
    board.running = old
    await board.report()


async def test_each_time_that_a_device_reverts_it_has_failed_the_app_once_more(server):
    fleet = await Fleet.make(server, 1)
    [board] = fleet.boards.values()
    old = dict(board.running)
    rollout = await fleet.start(Waves="100%", Limit="90%", Soak=3600)
    for failures in (1, 2, 3):
        await revert(board, old)
        await board.report()
        assert await penalties(fleet.hands, board.sid) == [(fleet.v2["sid"], failures, failures == 3)]
    rollout = await fleet.tick(rollout)
    assert rollout["counts"]["failed"] == 1
    assert rollout["failure_rate"] == 1
    [row] = await fleet.members(rollout)
    assert row["reason"] == "reverted"


async def test_a_device_that_reverts_from_a_direct_target_three_times_is_held_back_from_rollouts_of_it(server):
    fleet = await Fleet.make(server, 1)
    [board] = fleet.boards.values()
    old = dict(board.running)
    await fleet.hands.post(f"/v1/Devices/{board.sid}", TargetApp="v2")
    for _ in range(3):
        await revert(board, old)
    await fleet.hands.post(f"/v1/Devices/{board.sid}", TargetApp="v1")
    server.clock.advance(1)
    rollout = await fleet.start(Waves="100%")
    [row] = await fleet.members(rollout)
    assert (row["state"], row["reason"]) == ("skipped", "penalty")


async def test_a_ddi_device_that_fails_thrice_is_held_back_until_a_direct_target_and_deleted_apps_hold_nobody(server):
    hands = server.hands
    app = await hands.app("v2")
    board = DdiBoard(server, await hands.device("d0"))
    await board.poll()
    fleet = Fleet(server, None, None, [])
    for _ in range(3):
        server.clock.advance(1)
        rollout = await fleet.start(Waves="100%")
        await board.poll()
        [row] = await fleet.members(rollout)
        await board.say(row["update_number"], finished="failure")
        await fleet.act(rollout, "abort")
        await fleet.tick(rollout)
    assert await penalties(hands, "d0") == [(app["sid"], 3, True)]
    server.clock.advance(1)
    rollout = await fleet.start(Waves="100%", Soak=3600)
    [row] = await fleet.members(rollout)
    assert (row["state"], row["reason"]) == ("skipped", "penalty")
    await hands.delete(f"/v1/Devices/d0/Penalties/{app['sid']}")
    server.clock.advance(60)
    await fleet.tick(rollout)
    [row] = await fleet.members(rollout)
    assert row["state"] == "updating"
    await board.poll()
    await board.say(row["update_number"], finished="failure")
    assert await penalties(hands, "d0") == [(app["sid"], 1, False)]
    await fleet.act(rollout, "abort")
    await fleet.tick(rollout)
    await hands.post("/v1/Devices/d0", TargetApp="")
    await hands.delete(f"/v1/Apps/{app['sid']}")
    assert await penalties(hands, "d0") == []


async def test_of_failures_and_a_direct_target_at_one_time_none_is_lost(server):
    fleet = await Fleet.make(server, 12)
    await fleet.start(Waves="100%", Limit="100%")
    await asyncio.gather(*(board.follow("failed") for board in fleet.boards.values()))
    found = await asyncio.gather(*(penalties(fleet.hands, sid) for sid in fleet.boards))
    assert found == [[(fleet.v2["sid"], 1, False)]] * 12
    await asyncio.gather(*(fleet.hands.post(f"/v1/Devices/{sid}", TargetApp="v2") for sid in fleet.boards))
    assert [await penalties(fleet.hands, sid) for sid in fleet.boards] == [[]] * 12
    stranger = await server.stranger()
    await stranger.get(f"/v1/Devices/{next(iter(fleet.boards))}/Penalties", ok=404)
    await stranger.delete(f"/v1/Devices/{next(iter(fleet.boards))}/Penalties/{fleet.v2['sid']}", ok=404)
