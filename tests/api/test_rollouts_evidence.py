"""What counts for and against a release, and whom it waits for: devices that go, that are shut out, and that are new."""

import pytest
from tests.api.rollout_world import Board, Fleet
from tests.api.test_identity import enroll, new_token
from tests.jws import Key

from fleetvisor.db.database import Tx

DAY_S = 24 * 3600


async def enrolled(fleet, count, **form):
    """Let devices enrol by themselves; give boards that run the first app."""
    grant = await new_token(fleet.hands, MaxUses=str(count), **form)
    boards = []
    for _ in range(count):
        sid = (await enroll(fleet.server, grant["token"], Key()))["sid"]
        token = (await fleet.hands.post(f"/v1/Devices/{sid}/Credentials", ok=201))["device_token"]
        board = Board(fleet.server, sid, token, {"app": fleet.v1["sid"], "manifest": fleet.v1["hash"][7:]})
        await board.report()
        fleet.boards[sid] = board
        boards.append(board)
    return boards


async def evidence(fleet, rollout):
    """Give how many devices count for and against, by the newest decision."""
    decision = (await fleet.tick(rollout))["decision"]["numbers"]
    return decision["succeeded"], decision["failed"] + decision["silent"], decision["uncounted"]


async def settled(fleet, rollout):
    """Let the ticker look at everything that it looks at from time to time."""
    fleet.server.clock.advance(2)
    return await fleet.tick(rollout)


async def test_what_speaks_against_a_release_stays_counted_when_the_device_is_removed(server):
    fleet = await Fleet.make(server, 12)
    rollout = await fleet.start(Waves="6,100%", Limit="2%", OnUnproven="stop", MinimumSample=5)
    tried = [board for board in fleet.boards.values() if (await board.desired())["app"]]
    for board in tried[:4]:
        await board.follow("failed")
        await fleet.hands.delete(f"/v1/Devices/{board.sid}")
        del fleet.boards[board.sid]
    for board in tried[4:]:
        await board.follow()
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["decision"]["code"]) == ("stopped", "failing")
    assert (rollout["counts"]["failed"], rollout["counts"]["succeeded"], rollout["removed_devices"]) == (4, 2, 4)
    assert {row["state"] for row in await fleet.members(rollout)} == {"succeeded"}


async def test_a_device_that_is_removed_while_it_updates_is_not_waited_for(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.start(Waves="100%")
    first, second = fleet.boards.values()
    await first.follow()
    await fleet.hands.delete(f"/v1/Devices/{second.sid}")
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["removed_devices"]) == ("completed", 0)


async def test_a_disabled_device_is_not_waited_for_and_counts_once_it_is_back(server):
    fleet = await Fleet.make(server, 3)
    rollout = await fleet.start(Waves="100%", OnUnproven="hold", RequireProof="true")
    first, second, third = fleet.boards.values()
    await first.follow()
    await second.follow()
    await third.follow("installing")
    await fleet.hands.post(f"/v1/Devices/{third.sid}", Access="disabled")
    rollout = await settled(fleet, rollout)
    assert rollout["waits_for"]["code"] == "operator"
    (row,) = await fleet.members(rollout, State="offline")
    assert (row["device_sid"], row["reason"]) == (third.sid, "disabled")
    await fleet.hands.post(f"/v1/Devices/{third.sid}", Access="active")
    await third.follow()
    assert (await settled(fleet, rollout))["counts"]["succeeded"] == 3


async def test_the_silence_of_a_disabled_device_speaks_neither_against_the_app_nor_against_the_device(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.start(Waves="100%", RequireProof="true")
    first, second = fleet.boards.values()
    await first.follow()
    await second.follow("installing")
    await fleet.hands.post(f"/v1/Devices/{second.sid}", Access="disabled")
    rollout = await settled(fleet, rollout)
    server.clock.advance(2 * server.limits.report_timeout_s)
    await server.world.updates.expire()
    rollout = await settled(fleet, rollout)
    (row,) = await fleet.members(rollout, State="left")
    assert (row["device_sid"], row["reason"], row["error_code"]) == (second.sid, "disabled", 9)
    assert rollout["counts"]["silent"] == 0
    assert (await fleet.hands.get(f"/v1/Devices/{second.sid}/Penalties"))["penalties"] == []


async def test_a_device_without_its_last_credential_is_not_waited_for(server):
    fleet = await Fleet.make(server, 2)
    rollout = await fleet.start(Waves="100%")
    first, second = fleet.boards.values()
    await first.follow()
    (credential,) = (await fleet.hands.get(f"/v1/Devices/{second.sid}/Credentials"))["credentials"]
    await fleet.hands.delete(f"/v1/Devices/{second.sid}/Credentials/{credential['fingerprint']}")
    rollout = await settled(fleet, rollout)
    assert rollout["state"] == "completed"
    (row,) = await fleet.members(rollout, State="offline")
    assert (row["device_sid"], row["reason"]) == (second.sid, "no_credential")


async def test_devices_that_enrol_after_the_start_cannot_outvote_those_that_were_there(server):
    fleet = await Fleet.make(server, 10)
    known = list(fleet.boards.values())
    rollout = await fleet.start(Waves="10,100%", Limit="20%", Soak=600, OnUnproven="stop")
    server.clock.advance(1)
    invented = await enrolled(fleet, 40)
    server.clock.advance(31)  # late devices are looked for every half minute
    rollout = await fleet.tick(rollout)
    for board in invented:
        await board.follow()
    rollout = await fleet.tick(rollout)
    voted = rollout["counts"]["succeeded"]
    assert rollout["uncounted"] == voted > 10
    assert rollout["failure_rate"] is None
    for board in known[:5]:
        await board.follow("failed")
    rollout = await fleet.tick(rollout)
    assert (rollout["state"], rollout["decision"]["code"], rollout["failure_rate"]) == ("stopped", "failing", 1)
    rows = await fleet.members(rollout, State="succeeded")
    assert all((row["evidence"], row["evidence_from"]) == (False, None) for row in rows)


async def test_a_wave_of_new_devices_alone_is_held(server):
    fleet = await Fleet.make(server, 0)
    server.clock.advance(60)
    new = await enrolled(fleet, 6)
    rollout = await fleet.start(Waves="2,100%", KnownSince="2026-01-01T00:00:30Z")
    assert rollout["known_since"] == "2026-01-01T00:00:30Z"
    plan = (await fleet.hands.get(f"/v1/Rollouts/{rollout['sid']}/Plan")).json
    assert [wave["new"] for wave in plan["waves"]] == [2, 4]
    assert len(plan["warnings"]) == 2
    assert "Wave 1 is mostly new: 2 of its 2 devices" in plan["warnings"][0]
    for board in new:
        await board.follow()
    rollout = await fleet.tick(rollout)
    assert (rollout["waits_for"]["code"], rollout["decision"]["code"]) == ("operator", "only_new")
    assert "2 more are too new to count as evidence" in rollout["decision"]["sentence"]
    await fleet.act(rollout, "release")
    rollout = await fleet.run(await fleet.tick(rollout))
    assert (rollout["state"], rollout["uncounted"]) == ("completed", 6)


async def test_in_the_last_wave_whom_an_operator_let_in_counts_and_others_after_a_day(server):
    fleet = await Fleet.make(server, 2)
    registered = list(fleet.boards.values())
    itself = await enrolled(fleet, 3)
    accepted = itself.pop()
    await fleet.hands.post(f"/v1/Devices/{accepted.sid}", Access="disabled")
    await fleet.hands.post(f"/v1/Devices/{accepted.sid}", Access="active")
    rollout = await fleet.start(Waves="100%", Soak=2 * DAY_S, Limit="50%")
    for board in [*registered, accepted, *itself]:
        await board.follow()
    assert await evidence(fleet, rollout) == (3, 0, 2)
    rows = {row["device_sid"]: row for row in await fleet.members(rollout)}
    assert {rows[board.sid]["evidence_from"] for board in itself} == {"2026-01-02T00:00:00Z"}
    server.clock.advance(DAY_S - 10)
    assert (await settled(fleet, rollout))["uncounted"] == 2
    server.clock.advance(20)
    await settled(fleet, rollout)
    rollout = await fleet.tick(rollout)
    assert (rollout["uncounted"], rollout["counts"]["succeeded"]) == (0, 5)
    assert all(row["evidence"] for row in await fleet.members(rollout))


async def test_a_rollout_from_before_counts_every_device(server):
    fleet = await Fleet.make(server, 0)
    new = await enrolled(fleet, 4)
    made = (await fleet.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*", Waves="100%", Soak=0)).json

    async def body(tx: Tx) -> None:
        await tx.run("UPDATE rollouts SET known_by = 'none', known_since = NULL", {})

    await server.world.db.write(body)
    await fleet.act(made, "start")
    rollout = await fleet.tick(made)
    for board in new:
        await board.follow()
    assert await evidence(fleet, rollout) == (4, 0, 0)
    assert (await fleet.get(rollout))["known_since"] is None


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "1700000000"])
async def test_a_known_since_that_is_no_time_is_refused(server, since):
    fleet = await Fleet.make(server, 0)
    await fleet.hands.post("/v1/Rollouts", ok=400, App="v2", Selector="*", KnownSince=since)
