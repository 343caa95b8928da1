"""Whatever a client can make the server keep is bounded in sum: refused requests, wrong logins, a device's events."""

import os
import tracemalloc

import apsw
from tests.api.world import BASE, serving

from fleetvisor.db.sqlite import memory, open_sqlite
from fleetvisor.features.events.denials import ROWS_MAX, Refusal


async def events(hands, **wanted):
    return (await hands.get("/v1/Events", PageSize=1000, **wanted))["events"]


async def test_wrong_logins_with_long_names_take_no_memory(tmp_path):
    async with serving(memory(), tmp_path) as server:
        await server.hands.get("/v1/Devices")
        for number in range(20):  # warm
            await server.as_account(f"{number}", "wrong").call("GET", "/v1/Devices")
        tracemalloc.start()
        for number in range(1500):
            await server.as_account(f"{number}" + "x" * 9000, "wrong").call("GET", "/v1/Devices")
        await server.world.denials.flush()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert grown < 4 << 20


async def test_refused_requests_with_long_methods_take_little_of_the_disk(tmp_path):
    path = tmp_path / "api.db"
    async with serving(await open_sqlite(path), tmp_path) as server:
        await server.hands.get("/v1/Devices")
        before = size_of(path)
        for number in range(1500):
            url = f"{BASE}/v1/Devices/{number}"
            await server.hands.http.request(f"M{number}" + "X" * 15_000, url, auth=("x", "y"))
            if number % 50 == 0:
                await server.world.denials.flush()
        await server.world.denials.flush(last=True)
        found = await events(server.hands, Type="request.denied")
        assert sum(event["data"]["count"] for event in found) == 1500
        assert {event["data"].get("method", "other") for event in found} == {"other"}
        assert {event["address"] for event in found} == {"127.0.0.1"}
        assert len(found) <= 110
        grown = size_of(path) - before
    assert grown <= 1 << 20


def size_of(path):
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return os.path.getsize(path)


async def test_a_flood_from_one_address_leaves_room_for_another(tmp_path):
    async with serving(memory(), tmp_path, refusals_per_address_max=5, refusals_per_hour_max=8) as server:
        note = server.world.denials.note
        for number in range(50):
            note(Refusal("192.0.2.1", "", "GET", f"/{number}", 401))
        for number in range(6):
            note(Refusal("192.0.2.2", "", "GET", f"/{number}", 401))
        await server.world.denials.flush()
        told = [
            (event["address"], event["data"]["count"]) for event in await events(server.hands, Type="request.denied")
        ]
        assert told.count(("192.0.2.1", 1)) == 5
        assert told.count(("192.0.2.2", 1)) == 3  # the budget of all is over
        assert ("192.0.2.1", 45) in told
        assert ("192.0.2.2", 3) in told
        note(Refusal("192.0.2.1", "", "GET", "/x", 401))
        assert await server.world.denials.flush() == 0  # summed for ten minutes
        assert await server.world.denials.flush(last=True) == 1


async def test_a_round_writes_few_events_however_many_addresses_are_refused(tmp_path):
    async with serving(memory(), tmp_path) as server:
        for number in range(1000):
            server.world.denials.note(Refusal(f"2001:db8::{number:x}", "", "GET", f"/{number}", 401))
        assert await server.world.denials.flush(last=True) <= 2 * ROWS_MAX + 1
        found = await events(server.hands, Type="request.denied")
        assert sum(event["data"]["count"] for event in found) == 1000


async def test_refusals_are_forgotten_before_other_events(server, hands):
    await hands.device("d")
    await server.nobody().get("/v1/Devices", ok=401)
    await server.world.denials.flush()
    server.clock.advance(31 * 24 * 3600)
    (forget,) = (job.run for job in server.world.jobs if job.name == "events")
    assert await forget() == 1
    assert {event["type"] for event in await events(hands)} == {"account.created", "device.created"}


async def test_what_a_key_may_not_do_is_an_event_of_its_own_account(server):
    stranger = await server.stranger()
    made = (await stranger.post("/v1/Keys", ok=201, Role="viewer")).json
    key = server.as_account(made["sid"], made["secret"])
    await key.post("/v1/Devices", ok=403)
    await server.world.denials.flush()
    (told,) = await events(stranger, Type="request.denied")
    assert told["data"] | {"count": 1} == {
        "count": 1,
        "status": 403,
        "method": "POST",
        "path": "/v1/Devices",
        "identity": made["sid"],
    }
    assert await events(server.hands, Type="request.denied") == []


async def test_a_devices_events_beyond_its_budget_are_one_with_a_count(engine, tmp_path):
    async with serving(engine, tmp_path, device_events_per_hour_max=5, device_writes_per_s=0) as server:
        hands = server.hands
        made = await hands.device("d")
        other = await hands.device("other")

        async def say(device, number):
            url = f"{BASE}/DEFAULT/controller/v1/{device['sid']}/configData"
            answer = await hands.http.put(
                url.replace("DEFAULT", hands.auth[0]),
                json={"mode": "merge", "data": {"n": str(number)}},
                headers={"authorization": f"TargetToken {device['device_token']}"},
            )
            assert answer.status_code == 200

        for number in range(40):
            await say(made, number)
        await say(other, 1)
        found = await events(hands, Type="device.attributes", DeviceSid=made["sid"])
        assert [event["data"].get("merged") for event in found] == [35, None, None, None, None, None]
        assert (await hands.get("/v1/Devices/d/Attributes"))["attributes"] == {"n": "39"}
        assert len(await events(hands, Type="device.attributes", DeviceSid=other["sid"])) == 1
        server.clock.advance(3600)
        await say(made, 41)
        found = await events(hands, Type="device.attributes", DeviceSid=made["sid"])
        assert [event["data"].get("merged") for event in found][:2] == [None, 35]


async def test_a_device_has_a_budget_of_events_for_the_day_too(engine, tmp_path):
    bounds = {"device_events_per_hour_max": 4, "device_events_per_day_max": 6, "device_writes_per_s": 0}
    async with serving(engine, tmp_path, **bounds) as server:
        hands = server.hands
        made = await hands.device("d")

        async def say(times):
            for number in range(times):
                answer = await hands.http.put(
                    f"{BASE}/{hands.auth[0]}/controller/v1/{made['sid']}/configData",
                    json={"mode": "merge", "data": {"n": str(number)}},
                    headers={"authorization": f"TargetToken {made['device_token']}"},
                )
                assert answer.status_code == 200
            found = await events(hands, Type="device.attributes", DeviceSid=made["sid"])
            return [event["data"].get("merged") for event in found][::-1]

        one = None
        assert await say(10) == [one, one, one, one, 6]
        server.clock.advance(3600)
        assert await say(2) == [one, one, one, one, 6, one, one]
        assert await say(3) == [one, one, one, one, 6, one, one, 3]
        server.clock.advance(3600)
        assert await say(20) == [one, one, one, one, 6, one, one, 23]  # one row for the rest of the day
        server.clock.advance(24 * 3600)
        assert await say(5) == [one, one, one, one, 6, one, one, 23, one, one, one, one, 1]


async def test_an_auth_token_that_is_too_fast_is_told_so(tmp_path):
    async with serving(memory(), tmp_path, auth_token_requests_per_s=1, auth_token_requests_burst=4) as server:
        for _ in range(4):
            await server.hands.get("/v1/Devices")
        late = await server.hands.get("/v1/Devices", ok=429)
        assert late.headers["retry-after"] == "1"
        key = await server.hands.post("/v1/Keys", ok=429)  # nothing is done of it
        assert key["code"] == 20429
        await server.as_account("AC" + "0" * 32, "wrong").get("/v1/Devices", ok=401)


async def test_a_rate_of_zero_is_no_limit_for_auth_tokens(tmp_path):
    async with serving(memory(), tmp_path, auth_token_requests_per_s=0, auth_token_requests_burst=1) as server:
        for _ in range(5):
            await server.hands.get("/v1/Devices")
