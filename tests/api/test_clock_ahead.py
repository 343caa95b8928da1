"""A clock that was ahead once: contacts of the future count as now from when they are noticed, and then they age."""

from datetime import datetime

import msgspec
from tests.api.rollout_world import Fleet

from fleetvisor.features.clocks import ahead

DAY_S = 86_400


async def seen_then_back(server, name, back_s):
    """Let a device be seen, and set the clock back."""
    made = await server.hands.device(name)
    await server.hands.http.get(
        "https://mv.example.com/device/v1/desired", headers={"authorization": f"Bearer {made['device_token']}"}
    )
    await server.world.presence.flush()
    server.clock.millis -= round(back_s * 1000)
    return made


async def selected(server, selector):
    rows = (await server.hands.get("/v1/Devices", Selector=selector))["devices"]
    counts = (await server.hands.get("/v1/DeviceCounts", Selector=selector)).json
    assert counts["total"] == len(rows)
    return {row["unique_name"] for row in rows}


async def mended(server):
    [job] = [job for job in server.world.jobs if job.name == "ahead"]
    return await job.run()


def by_twos(server):
    """Return what mends, as the server has it, but two rows at a time."""
    world = server.world
    return ahead.Ahead(db=world.db, clock=server.clock, limits=server.limits, written=world.devices.forget, piece=2)


def last_seen_s(server, shown):
    return server.clock.millis / 1000 - datetime.fromisoformat(shown["date_last_seen"]).timestamp()


async def test_a_contact_of_the_future_proves_nothing_and_is_shown_as_now(server):
    made = await seen_then_back(server, "ahead", 9 * DAY_S)
    assert await selected(server, "seen<5m") == set()
    assert await selected(server, "seen<52w") == set()
    assert await selected(server, "seen>5m") == set()
    assert await selected(server, "seen") == {"ahead"}
    for path in (f"/v1/Devices/{made['sid']}", "/v1/Devices/ahead"):
        assert last_seen_s(server, (await server.hands.get(path)).json) < 1


async def test_it_is_set_to_now_when_it_is_noticed_and_ages_from_there(server):
    await seen_then_back(server, "ahead", 9 * DAY_S)
    await seen_then_back(server, "right", 0)
    assert await mended(server) == 1
    assert await selected(server, "seen<5m") == {"ahead", "right"}
    server.clock.advance(301)
    assert await selected(server, "seen<5m") == set()
    assert await selected(server, "seen>5m") == {"ahead", "right"}
    explained = (await server.hands.get("/v1/Devices/ahead/Explain")).json
    server.clock.advance(2 * DAY_S)
    later = (await server.hands.get("/v1/Devices/ahead/Explain")).json
    assert "offline" not in str([reason["code"] for reason in explained["reasons"]])
    assert "offline" in str([reason["code"] for reason in later["reasons"]])


async def test_nodes_whose_clocks_differ_a_little_are_believed(server):
    await seen_then_back(server, "near", 200)
    assert await selected(server, "seen<5m") == {"near"}
    assert await mended(server) == 0


async def test_it_is_looked_for_when_the_clock_went_back_and_once_an_hour(server):
    mender = by_twos(server)
    assert await mender.mend() == 0
    for number in range(5):
        await seen_then_back(server, f"d{number}", 0)
    server.clock.millis -= 9 * DAY_S * 1000
    assert await mender.mend() == 5, "the clock went back"
    for run in range(121):
        server.clock.advance(30)
        if run == 60:  # by another node
            server.clock.advance(9 * DAY_S)
            await seen_then_back(server, "late", 9 * DAY_S)
        assert await mender.mend() == (run == 120), run


YEARS_S = 9 * 365 * DAY_S


async def test_a_rollout_of_the_future_goes_on_in_the_present(server):
    """Its wave soaks, its rate is paid for, and a device that does not come counts as offline."""
    server.clock.advance(YEARS_S)
    fleet = await Fleet.make(server, 4)
    rollout = await fleet.start(Waves="2,100%", Soak=600, StartsPerMinute=2, OfflineAfter=10)
    away = fleet.boards[(await fleet.members(rollout))[0]["device_sid"]]
    for board in fleet.boards.values():
        if board is not away:
            await board.follow()
    server.clock.advance(-YEARS_S)
    await mended(server)
    for _ in range(40):
        server.clock.advance(DAY_S)
        rollout = await fleet.tick(rollout)
        for board in fleet.boards.values():
            if board is not away:
                await board.follow()
        if rollout["date_ended"]:
            break
    assert rollout["state"] == "completed"
    assert {row["state"] for row in await fleet.members(rollout)} == {"succeeded", "offline"}


async def test_an_update_that_was_fetched_in_the_future_is_overdue_in_the_present(server):
    server.clock.advance(YEARS_S)
    fleet = await Fleet.make(server, 1)
    [board] = fleet.boards.values()
    await server.hands.post(f"/v1/Devices/{board.sid}", TargetApp="v2")
    await board.follow("downloading")
    server.clock.advance(-YEARS_S)
    await mended(server)
    await server.world.updates.expire()
    assert (await fleet.device(board.sid))["app"]["update_status"] == "pending", "it gets its whole time, from now"
    server.clock.advance(3601)
    await server.world.updates.expire()
    assert (await fleet.device(board.sid))["app"]["update_error_code"] == 9


async def test_an_instruction_of_the_future_is_no_newer_than_one_of_the_present(server):
    server.clock.advance(YEARS_S)
    fleet = await Fleet.make(server, 2)
    first, second = fleet.boards.values()
    await server.hands.post(f"/v1/Devices/{first.sid}", TargetApp="v1")
    server.clock.advance(-YEARS_S)
    await mended(server)
    server.clock.advance(1)
    rollout = await fleet.start(Waves="100%")
    assert {row["state"] for row in await fleet.members(rollout)} == {"updating"}
    assert rollout["uncounted"] == 0, "the devices were there before"
    assert {row["device_sid"] for row in await fleet.members(rollout)} == {first.sid, second.sid}


class Count(msgspec.Struct):
    rows: int
    greatest: int


async def test_every_moment_by_which_something_is_decided_is_mended(server):
    """Of all rows, in pieces."""
    mender = by_twos(server)
    fleet = await Fleet.make(server, 5)
    await fleet.start(Waves="2,100%")
    app = await server.hands.app("gone")
    await server.hands.delete(f"/v1/Apps/{app['sid']}")
    await mender.mend()
    for moment in (ahead.CONTACT, *ahead.moments(server.limits)):
        far = server.clock.now() + YEARS_S * 1000

        async def body(tx, moment=moment, far=far):
            await tx.run(f"UPDATE {moment.table} SET {moment.column} = :far", {"far": far})

        await server.world.db.write(body)
        server.clock.millis -= 1
        await mender.mend()
        sql = f"SELECT COUNT(*) AS rows, COALESCE(MAX({moment.column}), 0) AS greatest FROM {moment.table}"
        found = await server.world.db.one(Count, sql, {})
        assert found.greatest <= server.clock.now() + moment.slack_ms, moment
        assert found.rows > 0 or moment.table in {"removed_blobs", "presence"}, moment


async def test_what_a_person_chose_for_the_future_stays(server):
    await server.hands.app("v2")
    later = "2030-01-01T00:00:00Z"
    rollout = (await server.hands.post("/v1/Rollouts", ok=201, App="v2", Selector="*")).json
    form = {"Action": "start", "StartAt": later}
    await server.hands.post(f"/v1/Rollouts/{rollout['sid']}", **form)
    key = (await server.hands.post("/v1/Keys", ok=201, Role="viewer", Ttl=DAY_S * 300)).json
    await mended(server)
    assert (await server.hands.get(f"/v1/Rollouts/{rollout['sid']}"))["date_start"] == later
    assert (await server.hands.get(f"/v1/Keys/{key['sid']}"))["date_expires"] == key["date_expires"]
