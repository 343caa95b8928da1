"""What a credential reaches: keys that keys make, credentials of devices, and the account's Secrets."""

import re
from base64 import urlsafe_b64decode

import pytest
from tests.api.test_identity import enroll, new_token, now_s
from tests.api.test_operators import events, key_hands
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

ADMIN_ONLY = (  # what changes who a device is, or who may be one
    ("POST", "/v1/Devices/d/Credentials"),
    ("DELETE", "/v1/Devices/d/Credentials/" + "0" * 64),
    ("DELETE", "/v1/RefusedKeys/" + "0" * 64),
)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


async def fetch(server, token, *, ok=200, store="secret", scope="account"):
    body = {"items": [{"scope": scope, "store": store, "key": "k"}]}
    return await server.nobody().call("POST", "/device/v1/configs/fetch", ok=ok, json=body, headers=bearer(token))


async def result(server, token, **wanted):
    [item] = (await fetch(server, token, **wanted))["items"]
    return item["result"]


async def imported(hands, key):
    content, headers = f"public_key\n{key.public}\n", {"content-type": "text/csv"}
    [device] = (await hands.post("/v1/DeviceImports", ok=201, content=content, headers=headers))["devices"]
    return device["sid"]


async def with_secret(hands):
    await hands.post("/v1/Secrets", ok=201, Key="k", Value="the account's")


async def reasons(hands, ref):
    return [reason["code"] for reason in (await hands.get(f"/v1/Devices/{ref}/Explain"))["reasons"]]


# API keys and the keys that they make


async def test_a_key_ends_no_later_than_the_one_that_made_it(server, hands):
    maker, made = await key_hands(server, Role="admin", Ttl="60")
    child = (await maker.post("/v1/Keys", ok=201, Role="admin")).json
    assert (child["maker_sid"], child["date_expires"]) == (made["sid"], made["date_expires"])
    for ttl in ("0", "61", "999999"):
        refused = await maker.post("/v1/Keys", ok=400, Role="admin", Ttl=ttl)
        assert made["date_expires"] in refused["detail"]
    shorter = (await maker.post("/v1/Keys", ok=201, Role="viewer", Ttl="10")).json
    grandchild = server.as_account(child["sid"], child["secret"])
    assert (await grandchild.post("/v1/Keys", ok=201, Role="admin"))["date_expires"] == made["date_expires"]
    server.clock.advance(10)
    await server.as_account(shorter["sid"], shorter["secret"]).get("/v1/Devices", ok=401)
    await grandchild.get("/v1/Devices")
    server.clock.advance(50)
    await grandchild.get("/v1/Devices", ok=401)


async def test_a_key_of_an_auth_token_has_no_maker_and_may_be_for_ever(server, hands):
    _, made = await key_hands(server, Role="admin")
    assert (made["maker_sid"], made["date_expires"]) == (None, None)
    _, made = await key_hands(server, Role="admin", Ttl="0")
    assert made["date_expires"] is None


async def test_a_key_that_made_others_is_removed_with_all_of_them_or_not_at_all(server, hands):
    maker, made = await key_hands(server, Role="admin")
    child, child_made = await key_hands(type("At", (), {"hands": maker, "as_account": server.as_account}), Role="admin")
    leaf = (await child.post("/v1/Keys", ok=201, Role="viewer")).json
    _, other = await key_hands(server, Role="admin")
    path = f"/v1/Keys/{made['sid']}"
    assert "2 API keys" in (await hands.delete(path, ok=409))["detail"]
    await hands.delete(path + "?Descendants=false", ok=409)
    await hands.delete(path + "?Descendants=perhaps", ok=400)
    await child.get("/v1/Devices")
    await hands.delete(path + "?Descendants=true")
    for sid, secret in ((child_made["sid"], child_made["secret"]), (leaf["sid"], leaf["secret"])):
        await server.as_account(sid, secret).get("/v1/Devices", ok=401)
    assert [key["sid"] for key in (await hands.get("/v1/Keys"))["keys"]] == [other["sid"]]
    assert {event["subject_sid"] for event in await events(hands, Type="key.deleted")} == {
        made["sid"],
        child_made["sid"],
        leaf["sid"],
    }


async def test_a_key_without_children_is_removed_without_a_word(server, hands):
    _, made = await key_hands(server, Role="admin")
    await hands.delete(f"/v1/Keys/{made['sid']}")


async def test_another_accounts_keys_are_nobodys_descendants(server, hands):
    stranger = await server.stranger()
    maker, made = await key_hands(server, Role="admin")
    await maker.post("/v1/Keys", ok=201, Role="viewer")
    await stranger.delete(f"/v1/Keys/{made['sid']}?Descendants=true", ok=404)
    assert len((await hands.get("/v1/Keys"))["keys"]) == 2


# roles go by what can be reached


@pytest.mark.parametrize(("method", "path"), ADMIN_ONLY)
async def test_what_proves_a_device_is_changed_by_admins_only(server, hands, method, path):
    await hands.device("d")
    for role, status in (("viewer", 403), ("operator", 403), ("admin", 404 if method == "DELETE" else 201)):
        key, _ = await key_hands(server, Role=role)
        assert (await key.call(method, path)).status == status


async def test_an_operator_reaches_no_secret_of_the_account(server, hands):
    """Whatever an operator makes or accepts gets none, and it cannot say otherwise."""
    await with_secret(hands)
    operator, _ = await key_hands(server, Role="operator")
    made = (await operator.post("/v1/Devices", ok=201, UniqueName="mine")).json
    assert made["account_secrets"] is False
    assert await result(server, made["device_token"]) == "key_not_found"
    for path in ("/v1/Devices", "/v1/Devices/mine"):
        refused = await operator.post(path, ok=403, AccountSecrets="true")
        assert refused["code"] == 20006
    await operator.post("/v1/Devices/mine", AccountSecrets="false")
    key = Key()
    born = await imported(operator, key)
    assert await result(server, key.jwt(born, BASE, now_s(server))) == "key_not_found"
    token = (await new_token(hands, Waits="true"))["token"]
    waiting = (await enroll(server, token, waited := Key()))["sid"]
    await operator.post(f"/v1/Devices/{waiting}", Access="active")
    assert await result(server, waited.jwt(waiting, BASE, now_s(server))) == "key_not_found"


async def test_what_an_admin_registers_imports_or_accepts_gets_the_accounts_secrets(server, hands):
    await with_secret(hands)
    admin, _ = await key_hands(server, Role="admin")
    for caller in (hands, admin):
        assert await result(server, (await caller.device())["device_token"]) == "ok"
    without = (await hands.post("/v1/Devices", ok=201, AccountSecrets="false")).json
    assert await result(server, without["device_token"]) == "key_not_found"
    key = Key()
    born = await imported(admin, key)
    assert await result(server, key.jwt(born, BASE, now_s(server))) == "ok"
    token = (await new_token(hands, Waits="true"))["token"]
    waiting = (await enroll(server, token, waited := Key()))["sid"]
    await admin.post(f"/v1/Devices/{waiting}", Access="active")
    assert await result(server, waited.jwt(waiting, BASE, now_s(server))) == "ok"


async def test_a_device_that_is_let_in_again_gets_no_more_than_before(server, hands):
    await with_secret(hands)
    made = (await hands.post("/v1/Devices", ok=201, UniqueName="d", AccountSecrets="false")).json
    await hands.post("/v1/Devices/d", Access="disabled")
    await hands.post("/v1/Devices/d", Access="active")
    assert await result(server, made["device_token"]) == "key_not_found"


async def test_account_secrets_are_given_and_taken_at_once_and_explained(server, hands):
    await with_secret(hands)
    made = (await hands.post("/v1/Devices", ok=201, UniqueName="d", AccountSecrets="false")).json
    await hands.post("/v1/Devices/d/Secrets", ok=201, Key="k", Value="its own")
    await hands.post("/v1/Configs", ok=201, Key="k", Value="the account's")
    assert "secrets_withheld" in await reasons(hands, "d")
    for scope, store, expected in (("device", "secret", "ok"), ("account", "config", "ok")):
        assert await result(server, made["device_token"], scope=scope, store=store) == expected
    assert (await hands.post("/v1/Devices/d", AccountSecrets="true"))["account_secrets"] is True
    assert "secrets_withheld" not in await reasons(hands, "d")
    assert await result(server, made["device_token"]) == "ok"
    await hands.post("/v1/Devices/d", AccountSecrets="false")
    assert await result(server, made["device_token"]) == "key_not_found"
    await hands.delete("/v1/Secrets/k")
    assert "secrets_withheld" not in await reasons(hands, "d")


# enrolment tokens


async def test_an_enrolment_tokens_devices_get_the_accounts_secrets_only_if_it_says_so(server, hands):
    await with_secret(hands)
    for said, expected in (({}, "key_not_found"), ({"AccountSecrets": "true"}, "ok")):
        made = await new_token(hands, **said)
        assert made["account_secrets"] is bool(said)
        key = Key()
        sid = (await enroll(server, made["token"], key))["sid"]
        assert await result(server, key.jwt(sid, BASE, now_s(server))) == expected


async def test_devices_of_a_token_that_waits_get_only_polls_until_they_are_accepted(server, hands):
    made = await new_token(hands, Waits="true", Labels="site=x")
    assert made["waits"] is True
    key, app = Key(), await hands.app()
    sid = (await enroll(server, made["token"], key))["sid"]
    assert (await enroll(server, made["token"], key, ok=200))["sid"] == sid
    await hands.post(f"/v1/Devices/{sid}", TargetApp=app["sid"])
    jwt = key.jwt(sid, BASE, now_s(server))
    shown = (await hands.get(f"/v1/Devices/{sid}")).json
    assert (shown["access"], shown["labels"]) == ("waiting", {"site": "x"})
    nobody = server.nobody()
    poll = await nobody.call("GET", "/device/v1/desired", ok=200, headers=bearer(jwt), auth=None)
    assert poll["app"] is None
    refused = await fetch(server, jwt, ok=403)
    assert "accepted" in refused["detail"]
    await nobody.call("GET", "/device/v1/layers/" + "0" * 64, ok=403, headers=bearer(jwt), auth=None)
    report = {"journal": "00000000", "sequence": 1}
    await nobody.call("POST", "/device/v1/report", ok=403, headers=bearer(jwt), auth=None, json=report)
    ddi = f"/{hands.auth[0]}/controller/v1/{sid}"
    waits = await nobody.call("GET", ddi, headers={"authorization": f"TargetToken {jwt}"}, auth=None)
    assert (waits.status, "_links" in waits.json and bool(waits["_links"])) == (200, False)
    assert "waiting" in await reasons(hands, sid)
    assert [event["subject_sid"] for event in await events(hands, Type="device.waiting")] == [sid]
    await hands.post(f"/v1/Devices/{sid}", Access="active")
    poll = await nobody.call("GET", "/device/v1/desired", ok=200, headers=bearer(jwt), auth=None)
    assert poll["app"]["sid"] == app["sid"]
    assert (await fetch(server, jwt)).status == 200


async def test_waiting_devices_are_bounded(tmp_path):
    async with serving(memory(), tmp_path, waiting_devices_max=1) as server:
        made = await new_token(server.hands, Waits="true", MaxUses="2")
        await enroll(server, made["token"], Key())
        await enroll(server, made["token"], late := Key(), ok=403)
        assert (await server.hands.get(f"/v1/EnrollmentTokens/{made['sid']}"))["uses"] == 1
        [waiting] = (await server.hands.get("/v1/Devices"))["devices"]
        await server.hands.post(f"/v1/Devices/{waiting['sid']}", Access="active")
        await enroll(server, made["token"], late)


# fetches are events


async def test_fetching_secrets_is_one_event_a_device_and_day(server, hands):
    await with_secret(hands)
    one, two = await hands.device("one"), await hands.device("two")
    await hands.post("/v1/Configs", ok=201, Key="k", Value="x")
    await result(server, one["device_token"], store="config")
    assert not await events(hands, Type="secret.fetched")
    for _ in range(3):
        for device in (one, two):
            assert await result(server, device["device_token"]) == "ok"
    found = await events(hands, Type="secret.fetched")
    assert {event["device_sid"] for event in found} == {one["sid"], two["sid"]}
    assert len(found) == 2
    assert found[0]["data"] == {"account_secrets": 1, "device_secrets": 0}
    assert found[0]["actor_sid"] == found[0]["device_sid"]
    server.clock.advance(24 * 3600)
    await result(server, one["device_token"])
    assert len(await events(hands, Type="secret.fetched")) == 3


async def test_a_fetch_that_got_no_secret_is_no_event(server, hands):
    device = await hands.device("d")
    assert await result(server, device["device_token"]) == "key_not_found"
    assert not await events(hands, Type="secret.fetched")


def forms(token):
    """Give what of a token must be nowhere: its secret part as text, and as the bytes that it stands for."""
    secret = token.rpartition("_")[2] if token.startswith("fve_") else token.partition("_")[2] or token
    yield secret.encode()
    if re.fullmatch("[0-9a-f]{32,}", secret):
        yield bytes.fromhex(secret)
    else:
        yield urlsafe_b64decode(secret + "=" * (-len(secret) % 4))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_no_token_of_any_kind_lies_in_the_database(server, hands, tmp_path):
    stranger = await server.stranger()
    made = {
        "auth token": hands.auth[1],
        "another account's": stranger.auth[1],
        "secondary": (await hands.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"],
        "key": (await hands.post("/v1/Keys", ok=201, Role="viewer"))["secret"],
        "device": (await hands.device("d"))["device_token"],
        "enrolment": (await new_token(hands))["token"],
        "gateway": (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"],
    }
    await server.as_account(hands.auth[0], made["auth token"]).get("/v1/Devices")
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("api.db*"))
    assert b"enrollment" in kept
    for kind, token in made.items():
        assert not [form for form in forms(token) if form in kept], kind
