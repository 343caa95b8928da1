"""Rollouts through the API: waves, guards, pauses, penalties, who leaves and who is left out. On every engine."""

from tests.api.rollout_world import Fleet
from tests.api.world import FIRST_NUMBER

from fleetvisor.features.rollouts import population, ticker


async def test_a_release_goes_wave_by_wave_until_every_device_runs_it(server):
    fleet = await Fleet.make(server, 40)
    rollout = await fleet.start(Waves="10%,50%,100%")
    assert rollout["state"] == "running"
    first = rollout["counts"]["updating"]
    assert 1 <= first < 20
    seen = set()
    while not rollout["date_ended"]:
        seen.add(rollout["wave"])
        for board in fleet.boards.values():
            await board.follow()
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert rollout["state"] == "completed"
    assert seen >= {1, 2}
    assert rollout["counts"]["succeeded"] == 40
    decisions = (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}/Decisions")).json["decisions"]
    assert decisions[0]["code"] == "unproven_within"
    assert (await fleet.hands.get("/v1/DeviceCounts", By="status")).json["groups"] == [
        {"value": "up-to-date", "count": 40}
    ]


async def test_a_failing_release_is_stopped_its_open_updates_canceled_and_rolled_back(server):
    fleet = await Fleet.make(server, 60)
    rollout = await fleet.start(Waves="10,50%,100%", Limit="2%", OnUnproven="stop")
    assert rollout["counts"]["updating"] == 10
    boards = iter(fleet.boards.values())
    tried = [board for board in boards if (await board.desired())["app"]]
    for board in tried[:6]:
        await board.follow("failed" if board is not tried[0] else "succeeded")
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["decision"]["code"]) == ("stopped", "failing")
    assert rollout["decision"]["numbers"]["failed"] == 5
    assert "at least" in rollout["decision"]["sentence"]
    assert {s: n for s, n in rollout["counts"].items() if n} == {"succeeded": 1, "failed": 5, "canceled": 4}

    back = (await fleet.hands.post("/v1/Rollouts", ok=201, Kind="rollback", RollbackOf=rollout["sid"], Soak=0)).json
    plan = (await fleet.hands.get(f"/v1/Rollouts/{back['sid']}/Plan")).json
    assert (plan["selected"], plan["waves"][0]["devices"], plan["waves"][0]["unchanged"]) == (10, 10, 9)
    await fleet.act(back, "start")
    back = await fleet.run(await fleet.tick(back))
    assert back["state"] == "completed"
    assert {s: n for s, n in back["counts"].items() if n} == {"succeeded": 1, "unchanged": 9}
    for sid in fleet.boards:
        app = (await fleet.device(sid))["app"]
        assert (app["update_status"], app["reported_sid"]) == ("up-to-date", fleet.v1["sid"])


async def test_devices_that_run_the_app_already_are_unchanged_and_no_evidence(server):
    fleet = await Fleet.make(server, 6)
    ahead = next(iter(fleet.boards.values()))
    ahead.running = {"app": fleet.v2["sid"], "manifest": fleet.v2["hash"][7:]}
    await ahead.report()
    rollout = await fleet.run(await fleet.start(Waves="100%"))
    assert (rollout["counts"]["unchanged"], rollout["counts"]["succeeded"]) == (1, 5)
    assert rollout["decision"]["numbers"]["succeeded"] == 5
    assert (await fleet.device(ahead.sid))["app"]["target_sid"] == fleet.v2["sid"]


async def test_a_device_targeted_directly_leaves_the_rollout_and_one_targeted_before_its_start_does_not(server):
    fleet = await Fleet.make(server, 8)
    *_, early, late = sorted(fleet.boards)  # the search goes by age, then by SID
    await fleet.hands.post(f"/v1/Devices/{early}", TargetApp="v1")
    server.clock.advance(1)
    made = (
        await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="8", Soak=0, MaxConcurrent=2)
    ).json
    await fleet.act(made, "start")
    server.clock.advance(1)
    await fleet.hands.post(f"/v1/Devices/{late}", TargetApp="v1")
    rollout = await fleet.tick(made)
    assert rollout["counts"]["updating"] == 2
    assert rollout["waits_for"]["code"] == "concurrency"
    open_, _ = [row["device_sid"] for row in await fleet.members(rollout, State="updating")]
    await fleet.hands.post(f"/v1/Devices/{open_}", TargetApp="v1")
    rollout = await fleet.run(rollout)
    members = {row["device_sid"]: row["state"] for row in await fleet.members(rollout)}
    assert members[open_] == members[late] == "left"
    assert members[early] == "succeeded"
    assert sorted(members.values()).count("succeeded") == 6
    assert (await fleet.device(late))["app"]["reported_sid"] == fleet.v1["sid"]
    reasons = (await fleet.hands.get(f"/v1/Devices/{late}/Explain")).json["reasons"]
    assert "target_direct" in {reason["code"] for reason in reasons}


async def test_open_updates_that_are_taken_over_count_against_the_most_at_one_time(server):
    """Also of devices that run the app already and are still telling how they came by it."""
    fleet = await Fleet.make(server, 4)
    for board in fleet.boards.values():
        await fleet.hands.post(f"/v1/Devices/{board.sid}", TargetApp="v2")
        board.running = {"app": fleet.v2["sid"], "manifest": fleet.v2["hash"][7:]}
        await board.report({"number": FIRST_NUMBER, "state": "downloading", "error_code": 0})
    server.clock.advance(1)
    rollout = await fleet.start(Waves="100%", MaxConcurrent=1)
    assert rollout["counts"]["updating"] == 1
    assert rollout["waits_for"]["code"] == "concurrency"
    counts = (await fleet.run(rollout))["counts"]
    assert (counts["succeeded"], counts["unchanged"]) == (1, 3)


async def test_a_newer_rollout_takes_the_devices_of_an_older_one(server):
    fleet = await Fleet.make(server, 6)
    older = await fleet.start(Waves="100%")
    server.clock.advance(1)
    await fleet.hands.app("v3")
    newer = await fleet.start(App="v3", Waves="100%")
    older = await fleet.get(older)
    assert (older["counts"]["left"], newer["counts"]["updating"]) == (6, 6)
    newer = await fleet.run(newer)
    assert newer["counts"]["succeeded"] == 6
    assert (await fleet.get(older))["counts"]["left"] == 6


async def test_one_app_twice_is_adopted_by_the_newer_rollout_without_a_second_update(server):
    fleet = await Fleet.make(server, 4)
    older = await fleet.start(Waves="100%")
    server.clock.advance(1)
    newer = await fleet.run(await fleet.start(Waves="100%"))
    assert newer["counts"]["succeeded"] == 4
    assert (await fleet.get(older))["counts"]["left"] == 4
    for sid in fleet.boards:
        assert (await fleet.device(sid))["update"]["number"] == FIRST_NUMBER


async def test_a_paused_rollout_offers_nothing_and_goes_on_when_resumed(server):
    fleet = await Fleet.make(server, 10)
    rollout = await fleet.start(Waves="100%", MaxConcurrent=3)
    await fleet.act(rollout, "pause")
    for board in fleet.boards.values():
        await board.follow()
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["counts"]["succeeded"], rollout["counts"]["updating"]) == ("paused", 3, 0)
    assert rollout["waits_for"]["code"] == "resume"
    await fleet.act(rollout, "resume")
    rollout = await fleet.run(rollout)
    assert rollout["counts"]["succeeded"] == 10


async def test_an_aborted_rollout_cancels_its_open_updates_and_leaves_what_succeeded(server):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="100%")
    first = next(iter(fleet.boards.values()))
    await first.follow()
    await fleet.act(rollout, "abort")
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["counts"]["succeeded"], rollout["counts"]["canceled"]) == ("aborted", 1, 5)
    for board in fleet.boards.values():
        assert not await board.follow()
    assert (await fleet.act(rollout, "resume", ok=409))["code"] == 20409


async def test_no_more_are_started_in_a_minute_than_the_rate_says(server):
    fleet = await Fleet.make(server, 30)
    rollout = await fleet.start(Waves="100%", StartsPerMinute=6)
    assert rollout["counts"]["updating"] == 1
    assert rollout["waits_for"]["code"] == "rate"
    for started in (2, 3, 4):
        server.clock.advance(10)
        assert (await fleet.tick(rollout))["counts"]["updating"] == started
    await fleet.hands.post(f"/v1/Rollouts/{rollout['sid']}", StartsPerMinute=0)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 30


async def test_a_device_that_joins_late_falls_into_its_wave(server):
    fleet = await Fleet.make(server, 4, Labels="site=graz")
    other = await fleet.hands.device("late")
    rollout = await fleet.start(Waves="100%", Selector="site=graz", Soak=600)
    await fleet.hands.post(f"/v1/Devices/{other['sid']}", Labels="site=graz")
    assert (await fleet.tick(rollout))["counts"]["updating"] == 4
    server.clock.advance(31)
    rollout = await fleet.tick(rollout)
    assert rollout["counts"]["updating"] == 5


async def test_silent_devices_count_as_failed_are_shown_apart_and_may_speak_again(server):
    fleet = await Fleet.make(server, 4)
    rollout = await fleet.start(Waves="100%", SilentAfter=60, Limit="50%")
    quiet, *others = fleet.boards.values()
    await quiet.follow("installing")
    for board in others:
        await board.follow()
    server.clock.advance(61)
    rollout = await fleet.tick(rollout)
    assert (rollout["counts"]["silent"], rollout["counts"]["succeeded"]) == (1, 3)
    assert rollout["decision"]["numbers"]["silent"] == 1
    await quiet.follow()
    assert (await fleet.get(rollout))["counts"]["succeeded"] == 4


async def test_an_offline_device_is_not_waited_for(server):
    fleet = await Fleet.make(server, 4)
    rollout = await fleet.start(Waves="100%", OfflineAfter=3600)
    away, *others = fleet.boards.values()
    for board in others:
        await board.follow()
    server.clock.advance(100)
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["waits_for"]["code"]) == ("running", "devices")
    server.clock.advance(3600)
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["counts"]["offline"]) == ("completed", 1)
    await away.follow()
    assert (await fleet.get(rollout))["counts"]["succeeded"] == 4


async def test_a_device_that_reverts_after_its_success_has_failed(server):
    fleet = await Fleet.make(server, 3)
    rollout = await fleet.start(Waves="100%", Soak=600, Limit="40%")
    first = next(iter(fleet.boards.values()))
    for board in fleet.boards.values():
        await board.follow()
    first.running = {"app": fleet.v1["sid"], "manifest": fleet.v1["hash"][7:]}
    await first.report()
    rollout = await fleet.tick(rollout)
    assert (rollout["counts"]["failed"], rollout["counts"]["succeeded"]) == (1, 2)
    await first.follow()  # it gets a new update, but it did fail
    assert (await fleet.get(rollout))["counts"]["failed"] == 1


async def test_a_device_that_reverts_after_its_rollout_was_stopped_is_left_alone(server):
    fleet = await Fleet.make(server, 3)
    rollout = await fleet.start(Waves="100%", Soak=600)
    first = next(iter(fleet.boards.values()))
    for board in fleet.boards.values():
        await board.follow()
    await fleet.act(rollout, "abort")
    await fleet.tick(rollout)
    first.running = {"app": fleet.v1["sid"], "manifest": fleet.v1["hash"][7:]}
    await first.report()
    assert not await first.follow()
    assert (await fleet.get(rollout))["counts"]["failed"] == 1
    assert (await fleet.device(first.sid))["app"]["update_status"] == "error"


async def test_failed_devices_are_retried_until_their_penalty_which_a_direct_target_lifts(server):
    fleet = await Fleet.make(server, 5)
    bad, *_ = fleet.boards
    rollout = await fleet.start(Waves="100%", Limit="90%")
    rollout = await fleet.run(rollout, lambda sid: "failed" if sid == bad else "succeeded")
    for failures in (2, 3):
        await fleet.act(rollout, "retry")
        rollout = await fleet.run(rollout, lambda sid: "failed" if sid == bad else "succeeded")
        penalties = (await fleet.hands.get(f"/v1/Devices/{bad}/Penalties")).json["penalties"]
        assert [(row["app_sid"], row["failures"], row["held"]) for row in penalties] == [
            (fleet.v2["sid"], failures, failures == 3)
        ]
    await fleet.act(rollout, "retry")
    rollout = await fleet.run(rollout)
    members = {row["device_sid"]: row for row in await fleet.members(rollout, State="failed")}
    assert (members[bad]["reason"], members[bad]["attempts"]) == ("penalty", 3)
    again = await fleet.run(await fleet.start(Waves="100%"))
    assert again["counts"]["skipped"] == 1
    reasons = (await fleet.hands.get(f"/v1/Devices/{bad}/Explain")).json["reasons"]
    assert "penalty" in {reason["code"] for reason in reasons}
    await fleet.hands.delete(f"/v1/Devices/{bad}/Penalties/{fleet.v2['sid']}")
    await fleet.hands.delete(f"/v1/Devices/{bad}/Penalties/{fleet.v2['sid']}", ok=404)
    again = await fleet.run(await fleet.start(Waves="100%"), lambda _: "failed")
    await fleet.hands.post(f"/v1/Devices/{bad}", TargetApp="v2")
    assert (await fleet.hands.get(f"/v1/Devices/{bad}/Penalties")).json["penalties"] == []


async def test_an_unproven_wave_over_the_limit_is_held_until_an_operator_releases_it(server):
    fleet = await Fleet.make(server, 30)
    rollout = await fleet.start(Waves="5,100%", Limit="1%", MinimumSample=6)
    bad, *_ = [row["device_sid"] for row in await fleet.members(rollout)]
    rollout = await fleet.run(rollout, lambda sid: "failed" if sid == bad else "succeeded")
    assert (rollout["wave"], rollout["decision"]["code"]) == (1, "unproven_over_hold")
    assert rollout["waits_for"]["code"] == "operator"
    assert await server.world.rollouts.waiting() == {"operator": 1}
    await fleet.act(rollout, "release")
    rollout = await fleet.get(rollout)
    assert (rollout["wave"], rollout["decision"]["code"]) == (2, "by_hand")


async def test_a_scheduled_rollout_begins_at_its_time(server):
    fleet = await Fleet.make(server, 3)
    made = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="100%", Soak=0)).json
    rollout = await fleet.act(made, "start", StartAt="2026-01-01T00:10:00Z")
    assert (rollout["state"], rollout["waits_for"]["until"]) == ("scheduled", "2026-01-01T00:10:00Z")
    assert (await fleet.tick(rollout))["counts"]["updating"] == 0
    server.clock.advance(601)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 3


async def test_a_large_selection_is_counted_piece_by_piece_while_other_rollouts_go_on(server, monkeypatch):
    """A guard is never kept waiting by a million devices that another rollout counts."""
    monkeypatch.setattr(population, "PIECE", 4)  # a piece of one million devices, made small
    monkeypatch.setattr(ticker, "PIECES_MAX", 1)  # as above
    fleet = await Fleet.make(server, 24)
    form = {"App": "v2", "Soak": 0, "ok": 201}
    everything = {"Selector": "*"} | form
    large = (await fleet.hands.post("/v1/Rollouts", Waves="7,100%", **everything)).json
    small = (await fleet.hands.post("/v1/Rollouts", Waves="100%", Selector="name=d3", **form)).json
    for each in (large, small):
        await fleet.act(each, "start")
    rollout = await fleet.tick(large)
    opened = (await fleet.hands.get("/v1/Events", Type="rollout.wave_opened")).json["events"]
    assert [(event["subject_sid"], event["data"]["devices"]) for event in opened] == [
        (large["sid"], 24),
        (small["sid"], 1),
    ]  # the newest first
    assert sum(rollout["counts"].values()) == 7
    await fleet.get(small)


async def test_a_plan_says_whom_each_wave_would_touch_and_who_is_left_out_and_the_start_does_just_that(server):
    fleet = await Fleet.make(server, 30)
    off, waiting, *_ = fleet.boards
    await fleet.hands.post(f"/v1/Devices/{off}", Access="disabled")
    made = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="20%,10,100%", Soak=0)).json
    plan = (await fleet.hands.get(f"/v1/Rollouts/{made['sid']}/Plan", Sample=50)).json
    assert plan["selected"] == 30
    assert [(group["reason"], group["sample"]) for group in plan["left_out"]] == [("disabled", [off])]
    await fleet.act(made, "start")
    del fleet.boards[off]
    rollout = await fleet.run(await fleet.tick(made))
    members = await fleet.members(rollout)
    for wave in plan["waves"]:
        touched = {
            row["device_sid"] for row in members if row["wave"] == wave["position"] and row["state"] != "skipped"
        }
        assert touched == set(wave["sample"])
    assert (await fleet.hands.get(f"/v1/Rollouts/{made['sid']}/Plan", Sample=1001, ok=400))["code"] == 20001


async def test_an_empty_selection_completes_with_a_decision_for_each_wave(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.start(Waves="10%,100%", Selector="label.site=nowhere")
    assert rollout["state"] == "completed"
    decisions = (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}/Decisions")).json["decisions"]
    assert [row["code"] for row in decisions] == ["empty", "empty"]


async def test_an_app_that_an_unfinished_rollout_names_cannot_be_removed(server):
    fleet = await Fleet.make(server, 2)
    made = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    await fleet.hands.delete("/v1/Apps/v2", ok=409)
    await fleet.hands.delete(f"/v1/Rollouts/{made['sid']}")
    await fleet.hands.get(f"/v1/Rollouts/{made['sid']}", ok=404)
    await fleet.hands.delete("/v1/Apps/v2")


async def test_bad_parameters_are_refused_with_what_to_do(server):
    hands = server.hands
    await hands.app("v2")
    for form in (
        {}, {"App": "none"}, {"App": "v2", "Kind": "x"}, {"App": "v2", "Waves": "50%,10%"}, {"App": "v2", "Limit": "x"},
        {"App": "v2", "Confidence": "100%"}, {"App": "v2", "Confidence": "20%"}, {"App": "v2", "OnUnproven": "maybe"},
        {"App": "v2", "Selector": "a b"}, {"App": "v2", "Soak": "-1"}, {"App": "v2", "Soak": "99999999999"},
        {"App": "v2", "RollbackOf": "RO" + "0" * 32}, {"Kind": "rollback"}, {"Kind": "rollback", "RollbackOf": "x"},
        {"Kind": "rollback", "RollbackOf": "RO" + "0" * 32}, {"App": "v2", "FriendlyName": "x" * 65},
        {"App": "v2", "RequireProof": "perhaps"}, {"App": "v2", "MaxConcurrent": "1.5"},
    ):  # fmt: skip
        selected = {} if form.get("Kind") == "rollback" else {"Selector": "*"}
        assert (await hands.post("/v1/Rollouts", ok=400, **selected | form))["code"] == 20001, form
    for form in ({}, {"Selector": ""}, {"Selector": " "}):
        detail = (await hands.post("/v1/Rollouts", ok=400, App="v2", **form)).json["detail"]
        assert "* selects all of them" in detail
    made = (await hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    for form in (
        {"Action": "go"},
        {"Action": "pause", "StartAt": "2026-01-01"},
        {"Action": "start", "StartAt": "soon"},
    ):
        await hands.post(f"/v1/Rollouts/{made['sid']}", ok=400, **form)
    await hands.get(f"/v1/Rollouts/{made['sid']}/Devices", ok=400, State="lost")
    await hands.post(f"/v1/Rollouts/{made['sid']}", ok=409, Action="pause")
    await hands.post("/v1/Rollouts", ok=409, Kind="rollback", RollbackOf=made["sid"])
    await (await server.stranger()).get(f"/v1/Rollouts/{made['sid']}", ok=404)


async def test_an_explanation_says_what_a_device_waits_for(server):
    fleet = await Fleet.make(server, 20)
    rollout = await fleet.start(Waves="1,100%", Soak=600)
    codes = {}
    for sid in fleet.boards:
        shown = (await fleet.hands.get(f"/v1/Devices/{sid}/Explain")).json
        codes[sid] = {reason["code"] for reason in shown["reasons"]}
        assert all("{" not in reason["sentence"] for reason in shown["reasons"])
    (first,) = [sid for sid, found in codes.items() if "target_rollout" in found]
    assert {"runs", "target_rollout", "pending", "tried"} <= codes.pop(first)
    assert all({"runs", "no_target", "wave", "rollout_waits"} <= found for found in codes.values())
    assert rollout["counts"]["updating"] == 1
    blank = await fleet.hands.device("blank", HardwareClass="x")
    await fleet.hands.post(f"/v1/Devices/{blank['sid']}", Access="disabled")
    reasons = (await fleet.hands.get("/v1/Devices/blank/Explain")).json["reasons"]
    assert {"never_reported", "no_target", "disabled", "never_seen"} <= {reason["code"] for reason in reasons}
