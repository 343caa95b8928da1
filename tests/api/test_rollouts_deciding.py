"""What guards decide in a whole server: kept once, with its numbers, when it is done, and what is waited for until then."""

from tests.api.rollout_world import Fleet

NUMBERS = {
    "succeeded", "failed", "silent", "offline", "uncounted", "lower", "upper", "limit", "confidence", "minimum_sample",
}  # fmt: skip


async def decisions(fleet, rollout):
    pages = await fleet.hands.walk(f"/v1/Rollouts/{rollout['sid']}/Decisions", "decisions")
    return [row for page in pages for row in page]


async def test_every_decision_has_its_numbers_also_an_operators_and_that_of_an_empty_wave(server):
    fleet = await Fleet.make(server, 8)
    rollout = await fleet.start(Waves="4,8,100%", Limit="1%", MinimumSample=9)
    rollout = await fleet.run(rollout, lambda _: "failed")
    await fleet.act(rollout, "release")
    rollout = await fleet.run(rollout)
    await fleet.act(rollout, "release")
    rollout = await fleet.run(rollout)
    found = await decisions(fleet, rollout)
    assert {"by_hand", "empty", "unproven_over_hold"} <= {row["code"] for row in found}
    assert all(set(row["numbers"]) == NUMBERS for row in found)
    (_, by_hand) = [row for row in found if row["code"] == "by_hand"]
    assert (
        by_hand["sentence"]
        == "4 of 4 devices failed; the bounds apply from 9 devices on. An operator released the wave."
    )
    assert (by_hand["numbers"]["failed"], by_hand["numbers"]["minimum_sample"]) == (4, 9)


async def test_a_paused_rollout_says_of_no_wave_that_it_is_released(server):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="3,100%")
    await fleet.act(rollout, "pause")
    for board in fleet.boards.values():
        await board.follow()
    for _ in range(3):
        server.clock.advance(1)
        rollout = await fleet.tick(rollout)
    assert (rollout["wave"], rollout["state"]) == (1, "paused")
    assert {row["verdict"] for row in await decisions(fleet, rollout)} == {"hold"}
    await fleet.act(rollout, "resume")
    rollout = await fleet.tick(rollout)
    assert rollout["wave"] == 2
    released = [row for row in await decisions(fleet, rollout) if row["code"] == "unproven_within"]
    assert [row["wave"] for row in released] == [1]


async def test_equal_looks_are_kept_once(server):
    fleet = await Fleet.make(server, 10)
    rollout = await fleet.start(Waves="5,100%", Limit="1%", MinimumSample=6)
    rollout = await fleet.run(rollout, lambda _: "failed")
    assert rollout["waits_for"]["code"] == "operator"
    kept = await decisions(fleet, rollout)
    for _ in range(20):
        server.clock.advance(60)
        await fleet.tick(rollout)
    assert await decisions(fleet, rollout) == kept


async def test_a_proven_wave_soaks_from_its_offer_on_whoever_still_decides(server):
    fleet = await Fleet.make(server, 40)
    rollout = await fleet.start(Waves="20,100%", Limit="50%", Soak=600)
    offered = rollout["waves"][0]["date_offered"]
    *others, late = [row["device_sid"] for row in await fleet.members(rollout)]
    server.clock.advance(200)
    for sid in others:
        await fleet.boards[sid].follow()
    rollout = await fleet.tick(rollout)
    assert rollout["decision"]["code"] == "soaking"
    assert rollout["waits_for"]["code"] == "soak"
    assert (offered, rollout["waits_for"]["until"]) == ("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z")
    await fleet.boards[late].follow()
    rollout = await fleet.tick(rollout)
    assert rollout["waits_for"]["until"] == "2026-01-01T00:10:00Z"
    server.clock.advance(399)
    assert (await fleet.tick(rollout))["wave"] == 1
    server.clock.advance(1)
    assert (await fleet.tick(rollout))["wave"] == 2


async def test_a_rollout_with_a_rate_says_when_the_next_update_starts(server):
    fleet = await Fleet.make(server, 5)
    rollout = await fleet.start(Waves="100%", StartsPerMinute=2)
    waits = rollout["waits_for"]
    assert (waits["code"], waits["until"]) == ("rate", "2026-01-01T00:00:29Z")  # 61 s for two, a second of it saved up
    server.clock.advance(29)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 1
    server.clock.advance(1)
    assert (await fleet.tick(rollout))["counts"]["updating"] == 2


async def test_a_wave_nobody_came_to_is_released_with_words_that_say_so(server):
    fleet = await Fleet.make(server, 6)
    rollout = await fleet.start(Waves="3,100%", OfflineAfter=60)
    server.clock.advance(100)
    rollout = await fleet.tick(rollout)
    rollout = await fleet.tick(rollout)
    assert rollout["wave"] == 2
    (released,) = [row for row in await decisions(fleet, rollout) if row["code"] == "unproven_within"]
    assert released["sentence"].startswith(
        "No device has succeeded, failed or fallen silent. 3 more did not fetch the update."
    )
    assert released["numbers"]["offline"] == 3
