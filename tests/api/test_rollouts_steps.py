"""The steps of rollouts where something stands in their way: limits, other clocks, removed apps, a wave half offered."""

import pytest
from tests.api.rollout_world import Fleet
from tests.api.test_ddi import Board
from tests.api.world import serving

from fleetvisor.features.rollouts import population, store, ticker


async def step(server, rollout):
    """Take one step of one rollout."""
    one = await store.find(server.world.db, server.hands.auth[0], rollout["sid"])
    await server.world.rollouts._step(one)


async def test_a_node_whose_clock_is_behind_starts_nothing_beyond_the_rate(server):
    fleet = await Fleet.make(server, 12)
    rollout = await fleet.start(Waves="100%", StartsPerMinute=1)
    assert rollout["counts"]["updating"] == 1
    server.clock.advance(-5)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 1


async def test_a_retry_that_waits_for_the_rate_lets_the_rollout_rest_and_be_decided(server, monkeypatch):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="3,100%", Limit="30%")
    while (rollout["waits_for"] or {}).get("code") != "operator":
        for board in fleet.boards.values():
            await board.follow("failed")
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    await fleet.act(rollout, "retry", StartsPerMinute=1)
    rounds, read = [], store.unfinished

    async def counted(db):
        rounds.append(db)
        assert len(rounds) < 50, "it takes steps for ever"
        return await read(db)

    monkeypatch.setattr(store, "unfinished", counted)  # counts the reads
    rollout = await fleet.tick(rollout)
    assert (rollout["counts"]["updating"], rollout["counts"]["failed"]) == (1, 2)
    before = await store.find(server.world.db, fleet.hands.auth[0], rollout["sid"])
    await fleet.tick(rollout)
    assert await store.find(server.world.db, fleet.hands.auth[0], rollout["sid"]) == before
    rounds.clear()
    for _ in range(3):
        for board in fleet.boards.values():
            await board.follow()
        server.clock.advance(61)
        rollout = await fleet.tick(rollout)
    assert rollout["waves"][0]["counts"]["succeeded"] == 3
    assert rollout["waves"][0]["state"] == "released"


async def test_a_bad_release_is_stopped_while_its_wave_is_still_being_offered(engine, tmp_path):
    async with serving(engine, tmp_path, rollout_chunk=5) as server:
        fleet = await Fleet.make(server, 40)
        made = await fleet.hands.post(
            "/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="100%", Soak=0, MinimumSample=1
        )
        rollout = made.json
        await fleet.act(rollout, "start")
        while not rollout["date_ended"]:
            await step(server, rollout)
            for board in fleet.boards.values():
                await board.follow("failed")
            rollout = await fleet.get(rollout)
        assert (rollout["state"], rollout["decision"]["code"]) == ("stopped", "failing")
        assert rollout["counts"]["failed"] == 5


async def test_a_wave_is_searched_once_however_small_the_chunks_and_anew_after_a_pace_was_met(
    engine, tmp_path, monkeypatch
):
    async with serving(engine, tmp_path, rollout_chunk=2) as server:
        fleet = await Fleet.make(server, 11)
        searched, piece = [], population.Population.piece

        async def counted(self, rollout, spot):
            searched.append((rollout.wave, spot))
            return await piece(self, rollout, spot)

        monkeypatch.setattr(population.Population, "piece", counted)  # counts the pieces that are read
        rollout = await fleet.start(Waves="100%")
        assert rollout["counts"]["updating"] == 11
        assert searched == [(0, None), (1, None)]  # once to count, once to offer
        searched.clear()
        await fleet.act(rollout, "abort")
        await fleet.tick(rollout)
        server.clock.advance(1)
        rollout = await fleet.start(Waves="4,100%", MaxConcurrent=3)
        assert rollout["counts"]["updating"] == 3
        assert (await fleet.run(rollout))["counts"]["succeeded"] == 11
        assert len([spot for wave, spot in searched if wave == 1]) > 1  # of the second chunk one was not taken


async def test_a_pause_while_late_devices_are_looked_for_does_not_begin_the_soak_anew(server):
    fleet = await Fleet.make(server, 3)
    rollout = await fleet.start(Waves="1,100%", Soak=600)
    for board in fleet.boards.values():
        await board.follow()
    settled = (await fleet.tick(rollout))["waves"][0]["date_settled"]
    assert settled is not None
    server.clock.advance(60)
    one = await store.find(server.world.db, fleet.hands.auth[0], rollout["sid"])
    await server.world.rollouts._look_again(one, ticker._Memo(), server.clock.now())
    await fleet.act(rollout, "pause")
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["waves"][0]["date_settled"]) == ("paused", settled)


async def test_an_app_that_only_the_selector_names_may_be_removed_and_the_rollout_goes_on(server):
    fleet = await Fleet.make(server, 4)
    hands = server.hands
    rollout = await fleet.start(Waves="1,100%", Selector="app=v1", Soak=60)
    for sid, board in fleet.boards.items():
        await board.follow()
        await hands.post(f"/v1/Devices/{sid}", TargetApp="v2")
        await board.follow()
    await hands.delete("/v1/Apps/v1", ok=204)
    assert (await hands.get(f"/v1/Rollouts/{rollout['sid']}/Plan")).json["selected"] == 0
    assert (await hands.get(f"/v1/Devices/{sid}/Explain")).json["reasons"]
    for _ in range(3):
        server.clock.advance(61)
        rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["counts"]["succeeded"]) == ("completed", 1)


async def test_a_plan_of_a_rollback_leaves_out_what_its_start_does(server):
    fleet = await Fleet.make(server, 4)
    hands = server.hands
    rollout = await fleet.run(await fleet.start(Waves="100%"))
    penalized = next(iter(fleet.boards))
    failed = {"device": penalized, "app": fleet.v1["sid"], "account": hands.auth[0]}

    async def body(tx):
        sql = """INSERT INTO app_failures (device_sid, app_sid, account_sid, failures, date_failed)
            VALUES (:device, :app, :account, 3, 1)"""
        await tx.run(sql, failed)

    await server.world.db.write(body)
    form = {"Kind": "rollback", "RollbackOf": rollout["sid"], "Soak": 0}
    back = (await hands.post("/v1/Rollouts", ok=201, **form)).json
    plan = (await hands.get(f"/v1/Rollouts/{back['sid']}/Plan")).json
    assert [(group["reason"], group["sample"]) for group in plan["left_out"]] == [("penalty", [penalized])]
    await fleet.act(back, "start")
    back = await fleet.tick(back)
    assert [row["device_sid"] for row in await fleet.members(back, State="skipped")] == [penalized]
    assert back["counts"]["updating"] == plan["waves"][0]["devices"] == 3


async def test_a_device_that_ends_with_another_upload_of_the_same_bundle_is_not_waited_for(server):
    """Its protocol asks, so the newer rollout had to wait for the older one's update, and then had nothing to make."""
    hands = server.hands
    for name in ("one", "other"):
        await hands.app(name, b"the same" * 50)
    board = Board(server, await hands.device("d0"))
    await board.poll()
    fleet = Fleet(server, None, None, [])
    first = await fleet.start(App="one", Waves="100%")
    server.clock.advance(1)
    second = await fleet.start(App="other", Waves="100%")
    await board.links()
    await board.say(1)
    second = await fleet.tick(second)
    assert (second["state"], second["counts"]["succeeded"]) == ("completed", 1)
    assert (await fleet.get(first))["counts"]["left"] == 1


async def test_drafts_are_not_read_with_what_is_under_way(server):
    fleet = await Fleet.make(server, 1)
    draft = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    running = await fleet.start(StartsPerMinute=1, Soak=600)
    under_way = await store.unfinished(server.world.db)
    assert [one.rollout_sid for one in under_way] == [running["sid"]]
    assert under_way == await store.unfinished_of(server.world.db, fleet.hands.auth[0])
    await fleet.act(draft, "start", StartAt="2030-01-01T00:00:00Z")
    assert len(await store.unfinished(server.world.db)) == 2


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
async def test_a_start_beyond_the_calendar_is_refused_and_the_list_stays_readable(server, moment):
    fleet = await Fleet.make(server, 1)
    rollout = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    await fleet.act(rollout, "start", ok=400, StartAt=moment)
    assert [row["state"] for row in (await fleet.hands.get("/v1/Rollouts")).json["rollouts"]] == ["draft"]


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("2025-12-31T23:58:59Z", "in the past"),
        ("2024-11-27T12:00:00Z", "in the past"),
        ("2026-01-01T00:00:00+00:02", "in the past"),
        ("2026-01-02", "a day without a time"),
        ("20260102", "a day without a time"),
        ("2026-W02-1", "a day without a time"),
        ("2026-01-02T10:00:00 05:30", "must be a time"),
        ("1767229200", "must be a time"),
        ("1767229200000", "must be a time"),
        ("2026-02-30T10:00:00Z", "must be a time"),
        ("2026-01-02T23:59:60Z", "must be a time"),
        ("", "is empty"),
    ],
)
async def test_a_start_in_the_past_or_on_a_day_without_a_time_starts_nothing(server, moment, why):
    fleet = await Fleet.make(server, 1)
    rollout = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    assert why in (await fleet.act(rollout, "start", ok=400, StartAt=moment))["detail"]
    assert (await fleet.get(rollout))["state"] == "draft"


async def test_a_start_less_than_a_minute_ago_is_now(server):
    fleet = await Fleet.make(server, 1)
    rollout = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    assert (await fleet.act(rollout, "start", StartAt="2025-12-31T23:59:01Z"))["state"] == "starting"


async def test_of_two_operators_who_release_a_wave_at_once_the_second_does_not_release_the_next(server):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="2,4,100%", Soak=600)
    await fleet.act(rollout, "release")
    answer = await fleet.act(rollout, "release", ok=409)
    assert answer["detail"] == "Wave 2 was just opened and has offered nothing yet."
    rollout = await fleet.tick(rollout)
    assert [wave["state"] for wave in rollout["waves"]].count("released") == 1
    await fleet.act(rollout, "release")


async def test_a_wave_that_is_named_is_released_only_while_it_is_the_open_one(server):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="2,4,100%", Soak=600)
    answer = await fleet.act(rollout, "release", ok=409, Wave=2)
    assert answer["detail"] == "Wave 2 is not the open one: wave 1 of the Rollout is."
    assert (await fleet.act(rollout, "release", Wave=1))["wave"] == 2
    await fleet.tick(rollout)
    await fleet.act(rollout, "release", ok=409, Wave=1)
    assert (await fleet.act(rollout, "release", Wave=2))["wave"] == 3
    assert (await fleet.act(rollout, "pause", ok=400, Wave=3))["detail"] == "Wave goes with Action=release."
    await fleet.act(rollout, "release", ok=400, Wave="third")


async def test_a_device_that_left_the_selection_while_a_pace_was_waited_for_is_not_offered_the_app(server):
    fleet = await Fleet.make(server, 6)
    for sid in fleet.boards:
        await fleet.hands.post(f"/v1/Devices/{sid}", Labels="site=graz")
    rollout = await fleet.start(Waves="100%", Selector="site=graz", StartsPerMinute=1)
    (first,) = [row["device_sid"] for row in await fleet.members(rollout)]
    await fleet.tick(rollout)
    for sid in fleet.boards:
        if sid != first:
            await fleet.hands.post(f"/v1/Devices/{sid}", Labels="site=linz")
    server.clock.advance(61)
    rollout = await fleet.tick(rollout)
    assert [row["device_sid"] for row in await fleet.members(rollout)] == [first]
