"""Operators: roles, ends and rates of API keys, Auth Tokens that are replaced, and the events that tell who did what."""

import asyncio

import pytest
from tests.api.test_identity import now_s
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

READS = ("/v1/Devices", "/v1/Apps", "/v1/Configs", "/v1/Keys", "/v1/Events", "/v1/EnrollmentTokens", "/v1/GatewayToken")
FLEET = ("/v1/Devices",)
ADMIN = ("/v1/Devices/d/Credentials", "/v1/Keys", "/v1/EnrollmentTokens", "/v1/GatewayToken")
AUTH_TOKEN = ("/v1/Accounts", "/v1/AuthTokens/Secondary", "/v1/AuthTokens/Promote")


async def key_hands(server, **form):
    made = (await server.hands.post("/v1/Keys", ok=201, **form)).json
    return server.as_account(made["sid"], made["secret"]), made


async def events(hands, **wanted):
    return (await hands.get("/v1/Events", **wanted))["events"]


@pytest.mark.parametrize(("role", "level"), [("viewer", 0), ("operator", 1), ("admin", 2)])
async def test_a_key_may_what_its_role_may(server, hands, role, level):
    await hands.device("d")
    key, made = await key_hands(server, Role=role, FriendlyName="x")
    assert made["role"] == role
    for path in READS:
        await key.get(path)
    for path in FLEET:
        await key.post(path, ok=201 if level >= 1 else 403)
    for path in ADMIN:
        form = {"Role": "viewer"} if path == "/v1/Keys" else {}
        await key.post(path, ok=201 if level >= 2 else 403, **form)
    await key.delete("/v1/Devices/d", ok=204 if level >= 1 else 403)
    for path in AUTH_TOKEN:
        assert (await key.post(path, ok=403))["code"] == 20006
    await key.delete(f"/v1/Keys/{made['sid']}?Descendants=true", ok=204 if level >= 2 else 403)


async def test_a_key_needs_a_role_that_there_is(server, hands):
    await key_hands(server, Role="admin")
    for form in ({"Role": "root"}, {"Role": "Admin"}, {"Role": ""}, {}, {"role": "viewer"}):
        await hands.post("/v1/Keys", ok=400, **form)
    for form in ({"Ttl": "x"}, {"Ttl": "-1"}, {"Ttl": "9" * 11}):
        await hands.post("/v1/Keys", ok=400, Role="viewer", **form)
    assert len((await hands.get("/v1/Keys"))["keys"]) == 1


async def test_a_key_ends_by_itself_and_says_when_it_was_used(server, hands):
    key, made = await key_hands(server, Role="admin", Ttl="100")
    assert (made["date_expires"], made["date_last_used"]) == ("2026-01-01T00:01:40Z", None)
    await key.get("/v1/Devices")
    await server.world.accounts.flush()
    assert (await hands.get(f"/v1/Keys/{made['sid']}"))["date_last_used"] == "2026-01-01T00:00:00Z"
    server.clock.advance(99)
    await key.get("/v1/Devices")
    await server.world.accounts.flush()
    assert (await hands.get(f"/v1/Keys/{made['sid']}"))["date_last_used"] == "2026-01-01T00:01:39Z"
    server.clock.advance(1)
    await key.get("/v1/Devices", ok=401)


async def test_an_auth_token_is_replaced_without_a_pause(server, hands):
    await hands.post("/v1/AuthTokens/Promote", ok=404)
    await hands.delete("/v1/AuthTokens/Secondary", ok=404)
    second = (await hands.post("/v1/AuthTokens/Secondary", ok=201)).json
    assert second["account_sid"] == hands.auth[0]
    await hands.post("/v1/AuthTokens/Secondary", ok=409)
    new = server.as_account(hands.auth[0], second["secondary_auth_token"])
    for one in (hands, new):
        await one.get("/v1/Devices")
    promoted = (await new.post("/v1/AuthTokens/Promote")).json
    assert promoted["auth_token"] == second["secondary_auth_token"]
    await hands.get("/v1/Devices", ok=401)
    await new.get("/v1/Devices")
    assert (await server.world.accounts.ensure_first()).auth_token == promoted["auth_token"]
    third = (await new.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"]
    await server.as_account(hands.auth[0], third).get("/v1/Devices")
    await new.delete("/v1/AuthTokens/Secondary")
    await server.as_account(hands.auth[0], third).get("/v1/Devices", ok=401)


async def test_an_event_says_what_happened_to_what_by_whom(server, hands):
    key, made = await key_hands(server, Role="operator")
    device = await key.device("d", Labels="site=graz")
    created = (await events(hands, Type="device.created"))[0]
    assert created["subject_sid"] == created["device_sid"] == device["sid"]
    assert created["actor_sid"] == made["sid"]
    assert created["address"] == "127.0.0.1"
    reply = await hands.post("/v1/Devices/d", Labels="site=linz")
    changed = (await events(hands, DeviceSid="d"))[0]
    assert (changed["type"], changed["data"]["labels"]) == ("device.updated", "site=linz")
    assert (changed["actor_sid"], changed["request_sid"]) == (hands.auth[0], reply.headers["twilio-request-id"])
    await hands.delete("/v1/Devices/d")
    assert [event["type"] for event in await events(hands, DeviceSid=device["sid"])] == [
        "device.deleted",
        "device.updated",
        "device.created",
    ]
    await hands.get("/v1/Events", ok=400, DeviceSid="d")
    stranger = await server.stranger()
    assert {event["type"] for event in await events(stranger)} == {"account.created"}


async def test_every_changing_request_is_an_event(server, hands):
    seen = 0

    async def one_more(reply):
        nonlocal seen
        found = await events(hands, PageSize=1000)
        assert len(found) > seen, reply
        assert found[0]["actor_sid"] == hands.auth[0], reply
        seen = len(found)
        return reply

    await one_more(await hands.post("/v1/Devices", ok=201, UniqueName="d"))
    key = Key()
    added = await one_more(await hands.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public))
    await one_more(await hands.delete(f"/v1/Devices/d/Credentials/{added['fingerprint']}"))
    await one_more(await hands.delete(f"/v1/RefusedKeys/{added['fingerprint']}"))
    app = await hands.app()
    await one_more(app)
    for form in ({"TargetApp": app["sid"]}, {"Access": "disabled"}, {"LoggingEnabled": "true"}, {"PollInterval": "9"}):
        await one_more(await hands.post("/v1/Devices/d", **form))
    for store in ("/v1/Configs", "/v1/Secrets", "/v1/Devices/d/Configs", "/v1/Devices/d/Secrets"):
        await one_more(await hands.post(store, ok=201, Key="k", Value="v"))
        await one_more(await hands.post(f"{store}/k", Value="w"))
        await one_more(await hands.delete(f"{store}/k"))
    for path in ("/v1/Keys", "/v1/EnrollmentTokens"):
        form = {"Role": "viewer"} if path == "/v1/Keys" else {}
        made = await one_more(await hands.post(path, ok=201, **form))
        if path != "/v1/Keys":
            await one_more(await hands.post(f"{path}/{made['sid']}", Revoked="true"))
        await one_more(await hands.delete(f"{path}/{made['sid']}"))
    for path in ("/v1/GatewayToken", "/v1/AuthTokens/Secondary"):
        await one_more(await hands.post(path, ok=201))
        await one_more(await hands.delete(path))
    await one_more(await hands.delete("/v1/Devices/d"))
    await one_more(await hands.delete(f"/v1/Apps/{app['sid']}"))


async def test_events_are_walked_by_pages_under_a_filter(server, hands):
    for number in range(7):
        await hands.device(f"d{number}")
        server.clock.advance(60)
    await hands.post("/v1/Configs", ok=201, Key="k", Value="v")
    pages = await hands.walk("/v1/Events", "events", PageSize=3, Type="device.created")
    assert [len(page) for page in pages] == [3, 3, 1]
    names = [event["data"]["unique_name"] for page in pages for event in page]
    assert names == [f"d{number}" for number in reversed(range(7))]
    first = (await hands.get("/v1/Events", PageSize=3, Type="device.created")).json["meta"]
    assert "&Type=device.created&Page=1" in first["next_page_url"]
    token = first["next_page_url"].rsplit("=", 1)[1]
    await hands.get("/v1/Events", ok=400, PageToken=token)
    between = {"StartDate": "2026-01-01T00:02:00Z", "EndDate": "2026-01-01T02:04:00+02:00", "Type": "device.created"}
    assert [event["data"]["unique_name"] for event in await events(hands, **between)] == ["d3", "d2"]
    assert await events(hands, StartDate="2026-01-02") == []
    for wrong in ({"StartDate": "x"}, {"EndDate": "2026-13-01"}, {"StartDate": "9999999"}, {"Type": "x" * 65}):
        await hands.get("/v1/Events", ok=400, **wrong)


async def test_old_events_are_forgotten_and_newer_ones_are_not(server, hands):
    await hands.device("old")
    server.clock.advance(server.limits.events_kept_s + 1)
    await hands.device("new")
    for job in server.world.jobs:
        if job.name == "events":
            await job.run()
    assert [event["data"]["unique_name"] for event in await events(hands, Type="device.created")] == ["new"]


async def test_refusals_are_events_of_whose_name_was_claimed_and_a_flood_is_one(server, hands):
    stranger = await server.stranger()
    viewer, made = await key_hands(server, Role="viewer")
    for _ in range(3):
        await viewer.post("/v1/Devices", ok=403)
    await server.as_account(stranger.auth[0], "wrong").get("/v1/Devices", ok=401)
    await server.nobody().get("/v1/Devices", ok=401)
    device, key = await hands.device("d"), Key()
    bad = key.jwt(device["sid"], BASE, now_s(server))
    await hands.http.get(f"{BASE}/device/v1/desired", headers={"authorization": f"Bearer {bad}"})
    await server.world.denials.flush()
    (theirs,) = await events(stranger, Type="request.denied")
    assert theirs["data"] == {
        "count": 1,
        "status": 401,
        "method": "GET",
        "path": "/v1/Devices",
        "identity": stranger.auth[0],
    }
    assert theirs["address"] == "127.0.0.1"
    told = {
        (event["data"]["path"], event["data"]["status"]): event for event in await events(hands, Type="request.denied")
    }
    assert told[("/v1/Devices", 403)]["data"] | {"identity": ""} == {
        "count": 3,
        "status": 403,
        "method": "POST",
        "path": "/v1/Devices",
        "identity": "",
    }
    assert told[("/device/v1/desired", 401)]["data"]["identity"] == device["sid"]
    assert told[("/v1/Devices", 401)]["data"]["count"] == 1


async def test_a_flood_of_refusals_writes_a_bounded_number_of_events(server, hands):
    for number in range(150):
        await hands.http.get(f"{BASE}/v1/Devices/{number}", auth=("x", "y"))
    assert await server.world.denials.flush() == 101
    found = await events(hands, Type="request.denied", PageSize=1000)
    assert sum(event["data"]["count"] for event in found) == 150
    assert await server.world.denials.flush() == 0


@pytest.fixture
async def strict(tmp_path):
    """A server with low bounds, in memory: no engine differs here."""
    bounds = {"failed_proofs_max": 3, "failed_proofs_per_address_max": 8, "key_requests_per_s": 2}
    async with serving(
        memory(), tmp_path, **bounds, key_requests_burst=5, device_writes_per_s=1, device_writes_burst=2
    ) as at:
        yield at


async def test_failures_are_slowed_and_a_right_credential_never_is(strict):
    hands = strict.hands
    wrong = strict.as_account(hands.auth[0], "wrong")
    for _ in range(3):
        await wrong.get("/v1/Devices", ok=401)
    slowed = await wrong.get("/v1/Devices", ok=429)
    assert slowed["code"] == 20429
    assert 1 <= int(slowed.headers["retry-after"]) <= 60
    await hands.get("/v1/Devices")  # the same name, from the same address
    for number in range(4):
        await strict.as_account(f"AC{number:032x}", "wrong").get("/v1/Devices", ok=401)
    await strict.as_account("AC" + "f" * 32, "wrong").get("/v1/Devices", ok=429)
    made = await hands.device("d")
    for token, status in ((made["device_token"], 200), ("fvd_wrong", 429)):
        answer = await hands.http.get(f"{BASE}/device/v1/desired", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == status
        assert "date" in answer.headers
    for _ in range(20):
        await strict.nobody().get("/v1/Devices", ok=401)  # no credential is no wrong one


async def test_a_key_that_is_too_fast_is_told_so(strict):
    key, _ = await key_hands(strict, Role="viewer")
    for _ in range(5):
        await key.get("/v1/Devices")
    late = await key.get("/v1/Devices", ok=429)
    assert (late["code"], late.headers["retry-after"]) == (20429, "1")
    assert late.headers["ratelimit-policy"] == '"requests";q=5;w=2'
    assert late.headers["ratelimit"] == '"requests";r=0;t=1'
    for _ in range(10):
        await strict.hands.get("/v1/Devices")
    await asyncio.sleep(0.6)
    await key.get("/v1/Devices")


async def test_a_devices_polls_are_not_limited_and_its_writes_are(strict):
    made = await strict.hands.device("d")
    headers = {"authorization": f"Bearer {made['device_token']}"}
    body = {"items": [{"scope": "device", "store": "config", "key": "k"}]}
    url = f"{BASE}/device/v1/configs/fetch"
    answers = [(await strict.hands.http.post(url, json=body, headers=headers)).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    for _ in range(30):
        answer = await strict.hands.http.get(f"{BASE}/device/v1/desired", headers=headers)
        assert answer.status_code == 200
