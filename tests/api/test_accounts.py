"""Who may call: accounts, API keys, and that nobody sees another account's things."""

from base64 import b64encode

import pytest
from tests.api.world import serving

from fleetvisor.db.sqlite import memory


async def test_no_credentials_are_told_how_to_authenticate(server):
    reply = await server.nobody().get("/v1/Devices", ok=401)
    assert reply.headers["www-authenticate"].startswith('Basic realm="')
    body = reply.json
    assert (body["code"], body["status"]) == (20003, 401)
    assert body["message"] == "Authentication Error - No credentials provided"


@pytest.mark.parametrize(
    "header",
    [
        b"Basic",
        b"Basic ",
        b"Basic !!!!",
        b"Basic " + b64encode(b"no colon"),
        b"Basic " + b64encode(b"\xff:\xff"),
        b"Basic " + b64encode(b"AC\0:x"),
        b"Basic " + b64encode(b":"),
        b"Basic " + b64encode(b"AC" + b"0" * 32 + b":" + b"0" * 32),
        b"Basic " + b64encode(b"SK" + b"0" * 32 + b":" + b"0" * 32),
        b"Bearer fvd_x",
        b"Digest username=x",
        b"\xff",
    ],
)
async def test_bad_credentials_are_refused(server, header):
    reply = await server.nobody().call("GET", "/v1/Devices", ok=401, headers=[(b"authorization", header)])
    assert reply["code"] == 20003
    assert "www-authenticate" in reply.headers


async def test_a_wrong_token_is_refused(server, hands):
    sid, token = hands.auth
    await server.as_account(sid, token[:-1] + ("0" if token[-1] != "0" else "1")).get("/v1/Devices", ok=401)
    await server.as_account(sid, "").get("/v1/Devices", ok=401)
    await server.as_account("", token).get("/v1/Devices", ok=401)
    await server.as_account(sid, token).get("/v1/Devices")


async def test_nothing_is_read_from_cookies(server, hands):
    basic = "Basic " + b64encode(":".join(hands.auth).encode()).decode()
    await server.nobody().call("GET", "/v1/Devices", ok=401, headers={"cookie": f"authorization={basic}"})


async def test_no_browser_is_asked_for_a_password_that_it_would_keep(server):
    """It would send it with every form that any page posts here."""
    for path in ("/v1/Devices", "/v1/Nothing"):
        for mode in ("navigate", "cors", "no-cors"):
            reply = await server.nobody().call("GET", path, ok=401, headers={"sec-fetch-mode": mode})
            assert reply.headers["www-authenticate"].startswith("X-Basic realm=")


async def test_unknown_paths_need_credentials_too(server):
    """Nothing is told to strangers, not even what there is."""
    for path in ("/v1/Nothing", "/v1", "/v1/", "/v1/Devices/x"):
        await server.nobody().get(path, ok=401)


async def test_an_api_key_stands_for_its_account(server, hands):
    made = (await hands.post("/v1/Keys", ok=201, Role="admin", FriendlyName="CI")).json
    assert made["friendly_name"] == "CI"
    assert made["account_sid"] == hands.auth[0]
    key = server.as_account(made["sid"], made["secret"])
    await hands.device("d")
    assert (await key.get("/v1/Devices/d"))["account_sid"] == hands.auth[0]
    shown = (await hands.get(f"/v1/Keys/{made['sid']}")).json
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert made["secret"] not in (await hands.get("/v1/Keys")).text
    await server.as_account(made["sid"], hands.auth[1]).get("/v1/Devices", ok=401)
    await server.as_account(hands.auth[0], made["secret"]).get("/v1/Devices", ok=401)
    await hands.delete(f"/v1/Keys/{made['sid']}")
    await key.get("/v1/Devices", ok=401)
    await hands.get(f"/v1/Keys/{made['sid']}", ok=404)


async def test_keys_are_listed_newest_first(server, hands):
    made = []
    for _ in range(3):
        made.append((await hands.post("/v1/Keys", ok=201, Role="admin"))["sid"])
        server.clock.advance(1)
    pages = await hands.walk("/v1/Keys", "keys", PageSize=2)
    assert [key["sid"] for page in pages for key in page] == made[::-1]


@pytest.mark.parametrize("name", ["n" * 65, "a\nb", "\x1b[31m"])
async def test_a_bad_key_name_is_refused(hands, name):
    await hands.post("/v1/Keys", ok=400, Role="admin", FriendlyName=name)


async def test_the_number_of_keys_is_bounded(tmp_path):
    async with serving(memory(), tmp_path, keys_per_account_max=2) as server:
        await server.hands.post("/v1/Keys", ok=201, Role="admin")
        await server.hands.post("/v1/Keys", ok=201, Role="admin")
        await server.hands.post("/v1/Keys", ok=409, Role="admin")


async def test_only_the_first_accounts_token_makes_accounts(server, hands):
    made = (await hands.post("/v1/Accounts", ok=201, FriendlyName="Factory")).json
    assert made["friendly_name"] == "Factory"
    await hands.post("/v1/Accounts", ok=400, FriendlyName="x" * 65)
    assert made["account_sid"].startswith("AC")
    assert made["auth_token"]
    other = server.as_account(made["account_sid"], made["auth_token"])
    assert (await other.get("/v1/Devices"))["devices"] == []
    assert (await other.post("/v1/Accounts", ok=403))["code"] == 20006
    key = (await hands.post("/v1/Keys", ok=201, Role="admin")).json
    assert (await server.as_account(key["sid"], key["secret"]).post("/v1/Accounts", ok=403))["code"] == 20006


async def test_another_accounts_things_are_not_found(server, hands):
    """By SID or by name, to read, write or remove: always 404, never 403; and names do not collide."""
    device = await hands.device("d")
    app = await hands.app("v1")
    key = (await hands.post("/v1/Keys", ok=201, Role="admin")).json
    await hands.post("/v1/Configs", ok=201, Key="k", Value="v")
    await hands.post("/v1/Devices/d/Secrets", ok=201, Key="k", Value="v")
    await hands.post("/v1/Devices/d", TargetApp="v1")
    stranger = await server.stranger()
    for ref in ("d", device["sid"]):
        await stranger.get(f"/v1/Devices/{ref}", ok=404)
        await stranger.post(f"/v1/Devices/{ref}", ok=404, LoggingEnabled="true")
        await stranger.post(f"/v1/Devices/{ref}", ok=404)
        await stranger.delete(f"/v1/Devices/{ref}", ok=404)
        await stranger.get(f"/v1/Devices/{ref}/Updates", ok=404)
        await stranger.get(f"/v1/Devices/{ref}/Updates/1", ok=404)
        await stranger.get(f"/v1/Devices/{ref}/Secrets", ok=404)
        await stranger.post(f"/v1/Devices/{ref}/Configs", ok=404, Key="x", Value="y")
    for ref in ("v1", app["sid"]):
        await stranger.get(f"/v1/Apps/{ref}", ok=404)
        await stranger.get(f"/v1/Apps/{ref}/Manifest", ok=404)
        await stranger.delete(f"/v1/Apps/{ref}", ok=404)
    await stranger.get("/v1/Configs/k", ok=404)
    await stranger.get(f"/v1/Keys/{key['sid']}", ok=404)
    await stranger.delete(f"/v1/Keys/{key['sid']}", ok=404)
    for path, name in (
        ("Devices", "devices"),
        ("Apps", "apps"),
        ("Configs", "configs"),
        ("Secrets", "secrets"),
        ("Keys", "keys"),
    ):
        assert (await stranger.get(f"/v1/{path}"))[name] == []
    mine = await stranger.device("d")
    await stranger.post(f"/v1/Devices/{mine['sid']}", ok=400, TargetApp=app["sid"])
    await stranger.post(f"/v1/Devices/{mine['sid']}", ok=400, TargetApp="v1")
    await stranger.post("/v1/Devices", ok=409, Sid=device["sid"])
    assert (await hands.get("/v1/Devices/d"))["sid"] == device["sid"]
