"""Explanations: in every situation what is said of a device is so, and is there as data too."""

import pytest
from tests.api.rollout_world import Fleet
from tests.api.test_ddi import Board as DdiBoard
from tests.api.world import FIRST_NUMBER
from tests.bundles import simple_bundle

from fleetvisor.features.explain.reasons import SENTENCES


async def explain(server, ref):
    """Give a device's reasons by code; each must be one that is documented, its sentence filled from its data."""
    shown = (await server.hands.get(f"/v1/Devices/{ref}/Explain")).json
    for reason in shown["reasons"]:
        assert reason["sentence"] == SENTENCES[reason["code"]].format(**reason["data"])
    return {reason["code"]: reason for reason in shown["reasons"]}


async def fleet_of(server, count=1):
    fleet = await Fleet.make(server, count)
    return fleet, list(fleet.boards.values())


async def test_what_runs_is_said_as_of_the_last_report(server):
    _, [board] = await fleet_of(server)
    server.clock.advance(60)
    await board.report()
    assert (await explain(server, "d0"))["runs"]["data"] == {"app": "v1", "date": "2026-01-01T00:01:00Z"}


async def test_an_update_that_was_fetched_says_until_when_it_must_be_heard_of(server):
    _, [board] = await fleet_of(server)
    await server.hands.post("/v1/Devices/d0", TargetApp="v2")
    assert "report_due" not in await explain(server, "d0")
    await board.follow("downloading")
    found = await explain(server, "d0")
    assert {"target_direct", "downloading", "report_due"} <= set(found)
    assert found["report_due"]["until"] == "2026-01-01T01:00:00Z"
    server.clock.advance(3601)
    await server.world.updates.expire()
    assert (await explain(server, "d0"))["failed"]["data"] == {"number": FIRST_NUMBER, "app": "v2", "error": 9}


async def test_a_device_that_reverts_is_tried_again_and_then_given_up(server):
    fleet, [board] = await fleet_of(server)
    old = dict(board.running)
    await fleet.hands.post("/v1/Devices/d0", TargetApp="v2")
    for tried in (1, 2, 3):
        await board.follow()
        board.running = old
        await board.report()
        data = (await explain(server, "d0"))["tried_again"]["data"]
        assert data == {"number": FIRST_NUMBER + tried, "retries": tried, "most": 3}
    await board.follow()
    board.running = old
    await board.report()
    assert (await explain(server, "d0"))["reverted"]["data"] == {"app": "v2", "retries": 3}


async def test_a_device_that_reverts_after_its_rollout_was_aborted_was_not_tried_too_often(server):
    fleet, [board] = await fleet_of(server)
    old = dict(board.running)
    rollout = await fleet.start(Waves="100%", Soak=600)
    await board.follow()
    await fleet.act(rollout, "abort")
    board.running = old
    await board.report()
    found = await explain(server, "d0")
    assert "reverted" not in found
    assert found["reverted_after"]["data"] == {"app": "v2", "rollout": rollout["sid"], "state": "aborted"}


async def test_a_device_that_no_wave_reaches_waits_for_none(server):
    await fleet_of(server, 20)
    fleet = Fleet(server, None, None, [])
    await fleet.start(Waves="1,2", Soak=600)
    found = [await explain(server, f"d{number}") for number in range(20)]
    assert sum("beyond" in codes for codes in found) == 18
    assert sum("wave" in codes for codes in found) == 1
    assert all("wave" not in codes and "rollout_waits" not in codes for codes in found if "beyond" in codes)


async def test_what_a_rollout_will_do_with_a_device_is_said_before_it_comes(server):
    fleet, _ = await fleet_of(server, 12)
    hands = server.hands
    content = simple_bundle(b"firmware of its own")
    form = {"UniqueName": "v3", "HardwareClass": "u5"}
    await hands.call("POST", "/v1/Apps", ok=201, data=form, files={"File": ("x.zip", content)})
    rollout = await fleet.start(App="v3", Waves="1,100%", Soak=600)
    [first] = [row["device_sid"] for row in await fleet.members(rollout)]
    other, disabled, direct, late, *_ = [sid for sid in fleet.boards if sid != first]
    await hands.post(f"/v1/Devices/{other}", HardwareClass="u7")
    await hands.post(f"/v1/Devices/{disabled}", Access="disabled")
    server.clock.advance(1)
    await hands.post(f"/v1/Devices/{direct}", TargetApp="v2")
    assert "hardware" in await explain(server, other)
    left_out = (await explain(server, disabled))["left_out"]
    assert (left_out["data"]["reason"], left_out["data"]["why"]) == ("disabled", "the device's access is disabled")
    found = await explain(server, direct)
    assert found["left"]["data"] == {"rollout": rollout["sid"], "app": "v3"}
    assert "wave" not in found
    found = await explain(server, late)
    assert (found["wave"]["data"]["wave"], found["rollout_waits"]["data"]["wait_code"]) == (2, "devices")


async def test_a_device_that_came_late_is_told_when_it_is_found(server):
    fleet, _ = await fleet_of(server, 2)
    await fleet.start(Waves="100%", Soak=600)
    await server.hands.device("late")
    found = await explain(server, "late")
    assert "late" in found
    assert "rollout_waits" not in found


async def test_a_rollback_that_a_newer_instruction_takes_a_device_from_would_not_have_it_run_nothing(server):
    fleet, boards = await fleet_of(server, 6)
    rollout = await fleet.run(await fleet.start(Waves="100%"))
    await fleet.hands.app("v3")
    made = (await fleet.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"])).json
    await fleet.act(made, "start")
    await fleet.tick(made)
    server.clock.advance(1)
    sid = boards[0].sid
    await fleet.hands.post(f"/v1/Devices/{sid}", TargetApp="v3")
    assert (await explain(server, sid))["left"]["data"] == {"rollout": made["sid"], "app": "v1"}


async def test_a_ddi_device_is_asked_may_choose_and_has_no_second_update_that_nobody_wants(server):
    hands = server.hands
    await hands.app("v2"), await hands.app("v3")
    board = DdiBoard(server, await hands.device("d0"))
    await board.poll()
    await hands.post("/v1/Devices/d0", TargetApp="v2", UpdateMode="attempt")
    await board.poll()
    assert "attempt" in await explain(server, "d0")
    await hands.post("/v1/Devices/d0", TargetApp="v3")
    found = await explain(server, "d0")
    assert found["cancel_asked"]["until"] == "2026-01-01T00:10:00Z"
    assert found["next_update"]["data"] == {"number": FIRST_NUMBER, "app": "v3"}
    await hands.post("/v1/Devices/d0", CancelUpdate="true")
    found = await explain(server, "d0")
    assert "next_update" not in found
    assert "cancel_asked" in found
    await board.say(1, kind="cancelAction")
    await hands.post("/v1/Devices/d0", TargetApp="v3", UpdateMode="skip", Confirm="true")
    assert "consent" in await explain(server, "d0")


async def test_a_device_that_runs_its_target_has_something_to_do_while_an_update_is_open(server):
    hands = server.hands
    await hands.app("v2"), await hands.app("v3")
    board = DdiBoard(server, await hands.device("d0"))
    await board.poll()
    await hands.post("/v1/Devices/d0", TargetApp="v2")
    await board.poll()
    await board.say(1)
    assert "up_to_date" in await explain(server, "d0")
    await hands.post("/v1/Devices/d0", TargetApp="v3")
    await board.poll()
    await hands.post("/v1/Devices/d0", TargetApp="v2")
    found = await explain(server, "d0")
    assert {"pending", "cancel_asked"} <= set(found)
    assert not {"up_to_date", "next_update"} & set(found)


@pytest.mark.parametrize("way", ["native", "ddi"])
async def test_credentials_that_ended_or_are_wrong_are_told(server, way):
    hands = server.hands
    made = await hands.device("boiler 7")
    path = "/device/v1/desired" if way == "native" else "/DEFAULT/controller/v1/boiler%207"
    scheme = "Bearer" if way == "native" else "TargetToken"
    token = made["device_token"] if way == "native" else "fvd_" + "x" * 32
    if way == "native":
        await hands.post(f"/v1/Devices/{made['sid']}/Credentials", ok=201, Overlap="60")
    assert "credentials_refused" not in await explain(server, made["sid"])
    server.clock.advance(120)
    await hands.call("GET", path, ok=401, auth=None, headers={"authorization": f"{scheme} {token}"})
    await server.world.denials.flush()
    found = await explain(server, made["sid"])
    assert found["credentials_refused"]["data"] == {"date": "2026-01-01T00:02:00Z"}
    assert "no_credentials" not in found
    assert token not in str(found)


async def test_a_refusal_is_of_the_device_whose_controller_id_the_board_uses(server):
    hands = server.hands
    await hands.device("old")
    await hands.post("/v1/Devices/old", UniqueName="new", ControllerId="shared")
    await hands.device("shared")
    path = "/DEFAULT/controller/v1/shared"
    await hands.call("GET", path, ok=401, auth=None, headers={"authorization": "TargetToken fvd_" + "x" * 32})
    await server.world.denials.flush()
    assert "credentials_refused" in await explain(server, "new")
    assert "credentials_refused" not in await explain(server, "shared")


async def test_a_device_without_a_credential_is_told_so(server):
    hands = server.hands
    made = await hands.device("d0")
    listed = (await hands.get(f"/v1/Devices/{made['sid']}/Credentials")).json["credentials"]
    for each in listed:
        await hands.delete(f"/v1/Devices/{made['sid']}/Credentials/{each['fingerprint']}")
    assert "no_credentials" in await explain(server, "d0")


async def test_a_device_is_not_offline_while_its_poll_may_still_be_held_or_its_app_lets_it_sleep(server):
    _, [board] = await fleet_of(server)
    await board.desired()
    await server.world.presence.flush()
    server.clock.advance(359)
    assert "offline" not in await explain(server, "d0")
    server.clock.advance(2)
    assert (await explain(server, "d0"))["offline"]["data"] == {"date": "2026-01-01T00:00:00Z"}


async def test_anothers_device_is_not_explained(server):
    await fleet_of(server)
    stranger = await server.stranger()
    await stranger.get("/v1/Devices/d0/Explain", ok=404)
    await server.nobody().get("/v1/Devices/d0/Explain", ok=401)


async def test_the_history_of_a_device_names_the_rollouts(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.run(await fleet.start(Waves="100%"))
    sid = next(iter(fleet.boards))
    await fleet.hands.post(f"/v1/Devices/{sid}", TargetApp="v1")
    updates = (await fleet.hands.get(f"/v1/Devices/{sid}/Updates")).json["updates"]
    found = [(update["app_sid"], update["rollout_sid"], update["state"]) for update in updates]
    assert found == [(fleet.v1["sid"], None, "pending"), (fleet.v2["sid"], rollout["sid"], "succeeded")]
    assert (await fleet.device(sid))["update"] == updates[0]
    assert (await fleet.hands.get(f"/v1/Devices/{sid}/Updates/{updates[1]['number']}")).json["rollout_sid"] == rollout[
        "sid"
    ]
