"""A release never lowers the security counter of what a native device runs: its boot loader would refuse it."""

from tests import images
from tests.api import test_ddi
from tests.api.rollout_world import Board, Fleet


async def firmware(hands, name, counter):
    content = images.mcuboot(payload=name.encode() * 64, counter=counter)
    files = {"File": ("x.bin", content)}
    return (await hands.call("POST", "/v1/Apps", ok=201, data={"UniqueName": name}, files=files)).json


async def native(server, name, app):
    """Make a native device that reports ``app``."""
    made = await server.hands.device(name)
    board = Board(server, made["sid"], made["device_token"], {"app": app["sid"], "manifest": app["hash"][7:]})
    await board.desired()
    await board.report()
    return board


async def test_a_direct_target_with_a_lower_counter_is_refused_and_changes_nothing(server, hands):
    low, high = await firmware(hands, "low", 3), await firmware(hands, "high", 5)
    plain = await firmware(hands, "plain", None)
    board = await native(server, "board", high)
    refused = await hands.post(f"/v1/Devices/{board.sid}", ok=409, TargetApp="low")
    assert "security counter is 3, and the Device runs an App with 5" in refused["detail"]
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["app"]["target_sid"] is None
    for app in (plain, high):
        await hands.post(f"/v1/Devices/{board.sid}", TargetApp=app["unique_name"])
    assert (low["security_counter"], plain["security_counter"]) == (3, None)


async def test_plan_offer_and_explain_leave_out_whom_a_rollout_would_lower(server, hands):
    low, high = await firmware(hands, "low", 3), await firmware(hands, "high", 5)
    lowered, same = await native(server, "lowered", high), await native(server, "same", low)
    fleet = Fleet(server, low, high, [lowered, same])
    made = (await hands.post("/v1/Rollouts", ok=201, App="low", Selector="*", Waves="100%", Soak=0)).json
    plan = (await hands.get(f"/v1/Rollouts/{made['sid']}/Plan", Sample=5)).json
    assert [(out["reason"], out["sample"]) for out in plan["left_out"]] == [("security_counter", [lowered.sid])]
    await fleet.act(made, "start")
    rollout = await fleet.tick(made)
    assert (rollout["state"], rollout["counts"]["skipped"]) == ("completed", 1)
    (row,) = await fleet.members(rollout, State="skipped")
    assert (row["device_sid"], row["reason"]) == (lowered.sid, "security_counter")
    assert (await hands.get(f"/v1/Devices/{lowered.sid}/Penalties"))["penalties"] == []
    assert rollout["decision"]["numbers"]["failed"] == 0


async def test_explain_says_it_of_a_rollout_to_come(server, hands):
    await firmware(hands, "low", 3)
    board = await native(server, "board", await firmware(hands, "high", 5))
    made = (await hands.post("/v1/Rollouts", ok=201, App="low", Selector="*", Waves="100%")).json
    await hands.post(f"/v1/Rollouts/{made['sid']}", Action="start", StartAt="2027-01-01T00:00:00Z")
    reasons = (await hands.get(f"/v1/Devices/{board.sid}/Explain"))["reasons"]
    (left_out,) = [reason for reason in reasons if reason["code"] == "left_out"]
    assert left_out["data"]["reason"] == "security_counter"
    assert "the App's security counter is lower than that of the App that the device runs" in left_out["sentence"]


async def test_a_rollback_to_a_lower_counter_leaves_the_device_out(server, hands):
    low, high = await firmware(hands, "low", 3), await firmware(hands, "high", 5)
    board = await native(server, "board", low)
    fleet = Fleet(server, low, high, [board])
    rollout = await fleet.start(App="high", Waves="100%")
    await board.follow()
    rollout = await fleet.run(rollout)
    back = (await hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"], Soak=0)).json
    await fleet.act(back, "start")
    back = await fleet.tick(back)
    assert {state: n for state, n in back["counts"].items() if n} == {"skipped": 1}


async def test_a_ddi_device_is_not_judged_by_the_counter(server, hands):
    await firmware(hands, "low", 3)
    board = test_ddi.Board(server, await hands.device("ddi"))
    await firmware(hands, "high", 5)
    await board.poll()
    await hands.post("/v1/Devices/ddi", TargetApp="high")
    number = (await hands.get("/v1/Devices/ddi"))["update"]["number"]
    await board.say(number)
    assert (await hands.get("/v1/Devices/ddi"))["app"]["update_status"] == "up-to-date"
    await hands.post("/v1/Devices/ddi", TargetApp="low")


async def test_an_app_says_that_a_signature_is_there_and_no_more(hands):
    app = await firmware(hands, "unsigned", None)
    assert (app["bears_signature"], app["signed"]) == (False, False)
