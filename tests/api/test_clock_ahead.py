"""A clock that was ahead once: contacts of the future count as now from when they are noticed, and then they age."""

from datetime import datetime

from fleetvisor.features.devices import ahead

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


async def test_it_is_looked_for_when_the_clock_went_back_and_once_an_hour(server, monkeypatch):
    monkeypatch.setattr(ahead, "_PIECE", 2)
    assert await mended(server) == 0
    for number in range(5):
        await seen_then_back(server, f"d{number}", 0)
    server.clock.millis -= 9 * DAY_S * 1000
    assert await mended(server) == 5, "the clock went back"
    for run in range(121):
        server.clock.advance(30)
        if run == 60:  # by another node
            server.clock.advance(9 * DAY_S)
            await seen_then_back(server, "late", 9 * DAY_S)
        assert await mended(server) == (run == 120), run
