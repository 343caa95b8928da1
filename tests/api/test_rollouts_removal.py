"""A rollout that ended can be removed with its history; devices stay as they are, and nothing is tried anew. On every engine."""

import msgspec
from tests.api.rollout_world import Fleet
from tests.api.world import serving


class Count(msgspec.Struct, frozen=True):
    number: int


async def test_a_rollout_that_ended_is_removed_with_all_its_rows_and_its_devices_stay(engine, tmp_path):
    async with serving(engine, tmp_path, rollout_chunk=3) as server:
        fleet = await Fleet.make(server, 8)
        rollout = await fleet.run(await fleet.start(Waves="2,100%"), lambda _: "succeeded")
        assert rollout["state"] == "completed"
        path = f"/v1/Rollouts/{rollout['sid']}"
        await fleet.hands.delete(path)
        for gone in (path, f"{path}/Plan", f"{path}/Decisions", f"{path}/Devices"):
            await fleet.hands.get(gone, ok=404)
        await fleet.hands.delete(path, ok=404)
        await fleet.hands.post(path, ok=404, Action="retry")
        assert (await fleet.hands.get("/v1/Rollouts")).json["rollouts"] == []
        await server.world.rollouts.tick()
        for table in ("rollouts", "rollout_waves", "rollout_devices", "rollout_counts", "rollout_decisions"):
            assert await rows(server, table) == 0, table
        sid = next(iter(fleet.boards))
        device = await fleet.device(sid)
        assert (device["app"]["update_status"], device["app"]["target_sid"]) == ("up-to-date", fleet.v2["sid"])
        sentences = [each["sentence"] for each in (await fleet.hands.get(f"/v1/Devices/{sid}/Explain")).json["reasons"]]
        assert any(rollout["sid"] in sentence for sentence in sentences)
        events = (await fleet.hands.get("/v1/Events", Type="rollout.deleted")).json["events"]
        assert [event["subject_sid"] for event in events] == [rollout["sid"]]


async def test_a_device_that_reverts_after_a_completed_rollout_was_removed_is_brought_back(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.run(await fleet.start(Waves="100%"))
    await fleet.hands.delete(f"/v1/Rollouts/{rollout['sid']}")
    await server.world.rollouts.tick()
    board = next(iter(fleet.boards.values()))
    await revert(fleet, board)
    assert (await fleet.device(board.sid))["app"]["update_status"] == "pending"


async def test_what_a_stopped_rollout_gave_up_is_not_tried_again_once_it_is_removed(server):
    fleet = await Fleet.make(server, 8)
    rollout = await fleet.start(Waves="8", Limit="2%", OnUnproven="stop")
    good, *bad = fleet.boards.values()
    await good.follow()
    for board in bad:
        await board.follow("failed")
    rollout = await fleet.tick(rollout)
    assert rollout["state"] == "stopped"
    await fleet.tick(rollout)
    await fleet.hands.delete(f"/v1/Rollouts/{rollout['sid']}")
    await revert(fleet, good)  # before its row is gone, or after: nothing is tried
    assert (await fleet.device(good.sid))["app"]["update_status"] == "error"
    good.running = {"app": fleet.v2["sid"], "manifest": fleet.v2["hash"][7:]}
    await good.report()
    await server.world.rollouts.tick()
    assert await rows(server, "rollouts") == 0
    await revert(fleet, good)
    assert (await fleet.device(good.sid))["app"]["update_status"] == "error"
    assert not await good.follow()


async def test_a_rollout_under_way_or_to_be_rolled_back_is_not_removed(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.start(Waves="100%")
    path = f"/v1/Rollouts/{rollout['sid']}"
    assert "abort it" in (await fleet.hands.delete(path, ok=409)).json["detail"]
    await fleet.act(rollout, "pause")
    await fleet.hands.delete(path, ok=409)
    await fleet.act(rollout, "abort")
    assert "being canceled" in (await fleet.hands.delete(path, ok=409)).json["detail"]
    await server.world.rollouts.tick()
    back = (await fleet.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"])).json
    assert "roll this one back" in (await fleet.hands.delete(path, ok=409)).json["detail"]
    await fleet.hands.delete(f"/v1/Rollouts/{back['sid']}")
    await (await server.stranger()).delete(path, ok=404)
    await fleet.hands.delete(path)
    await fleet.hands.post("/v1/Rollouts", ok=400, Kind="rollback", RollbackOf=rollout["sid"])


async def test_a_completed_rollout_that_another_is_to_take_back_is_not_tried_again(server):
    fleet = await Fleet.make(server, 4)
    first, *_ = fleet.boards
    rollout = await fleet.run(
        await fleet.start(Waves="100%", Limit="60%"), lambda sid: "failed" if sid == first else "succeeded"
    )
    assert (rollout["state"], rollout["counts"]["failed"]) == ("completed", 1)
    back = (await fleet.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"])).json
    await fleet.act(back, "start", StartAt="2030-01-01T00:00:00Z")
    assert "roll this one back" in (await fleet.act(rollout, "retry", ok=409))["detail"]
    await fleet.act(back, "abort")
    assert (await fleet.act(rollout, "retry"))["state"] == "running"


async def revert(fleet, board):
    board.running = {"app": fleet.v1["sid"], "manifest": fleet.v1["hash"][7:]}
    await board.report()


async def rows(server, table):
    (count,) = await server.world.db.all(Count, f"SELECT COUNT(*) AS number FROM {table}", {})
    return count.number
