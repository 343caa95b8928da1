"""How devices are born, proven and revoked: enrolment, credentials, gateway tokens, on every engine."""

import asyncio

import pytest
from tests.api.test_ddi import Board
from tests.api.world import BASE
from tests.jws import Key

ENROLL = f"{BASE}/device/v1/enroll"
SKEW = 20013


def now_s(server):
    return server.clock.millis // 1000


async def enroll(server, token, key, *, ok=201, proof=None, public_key=None):
    """Enrol as a device does; give the answer's JSON."""
    proof = key.proof(token, BASE, now_s(server)) if proof is None else proof
    body = {"token": token, "public_key": public_key or key.public, "proof": proof}
    answer = await server.hands.http.post(ENROLL, json=body)
    assert answer.status_code == ok, answer.text
    assert "date" in answer.headers
    return answer.json()


async def poll(server, token, *, ok=200):
    answer = await server.hands.http.get(f"{BASE}/device/v1/desired", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == ok, answer.text
    return answer


async def new_token(hands, **form):
    return (await hands.post("/v1/EnrollmentTokens", ok=201, **form)).json


async def test_an_enrolment_token_is_made_shown_once_listed_and_revoked(hands):
    made = await new_token(hands, FriendlyName="line 3", MaxUses="2", Labels=["site=graz", "batch=7"], Ttl="60")
    assert made["token"].startswith(f"fve_{made['sid'][2:]}_")
    shown = {name: value for name, value in made.items() if name != "token"}
    assert (await hands.get(f"/v1/EnrollmentTokens/{made['sid']}")).json == shown
    assert (shown["uses"], shown["max_uses"], shown["revoked"]) == (0, 2, False)
    assert shown["labels"] == {"batch": "7", "site": "graz"}
    assert shown["date_expires"] == "2026-01-01T00:01:00Z"
    second = await new_token(hands, Ttl="0")
    assert second["date_expires"] is None
    pages = await hands.walk("/v1/EnrollmentTokens", "enrollment_tokens", PageSize=1)
    assert sorted(row["sid"] for page in pages for row in page) == sorted((made["sid"], second["sid"]))
    assert (await hands.post(f"/v1/EnrollmentTokens/{made['sid']}", Revoked="true"))["revoked"] is True
    await hands.delete(f"/v1/EnrollmentTokens/{made['sid']}")
    await hands.get(f"/v1/EnrollmentTokens/{made['sid']}", ok=404)
    await hands.post(f"/v1/EnrollmentTokens/{made['sid']}", ok=404, Revoked="true")
    await hands.delete(f"/v1/EnrollmentTokens/{made['sid']}", ok=404)


@pytest.mark.parametrize(
    "form",
    [{"MaxUses": "0"}, {"MaxUses": "x"}, {"MaxUses": "-1"}, {"Ttl": "1.5"}, {"Ttl": "9" * 12}, {"HardwareClass": "\t"}]
    + [{"Labels": "site"}, {"Labels": "app=x"}, {"Labels": ["a=1", "a=2"]}, {"FriendlyName": "x" * 65}],
)
async def test_a_wrong_parameter_makes_no_token(hands, form):
    await hands.post("/v1/EnrollmentTokens", ok=400, **form)
    assert (await hands.get("/v1/EnrollmentTokens"))["enrollment_tokens"] == []


async def test_a_device_enrols_and_proves_itself_by_tokens_that_it_signs(server, hands):
    grant = await new_token(hands, HardwareClass="board-a", Labels="site=graz")
    key = Key()
    sid = (await enroll(server, grant["token"], key))["sid"]
    device = (await hands.get(f"/v1/Devices/{sid}")).json
    assert (device["hardware_class"], device["labels"], device["access"]) == ("board-a", {"site": "graz"}, "active")
    for _ in range(2):  # verified, then from memory
        await poll(server, key.jwt(sid, BASE, now_s(server)))
    await poll(server, Key().jwt(sid, BASE, now_s(server)), ok=401)
    await poll(server, key.jwt("UV" + "0" * 32, BASE, now_s(server)), ok=401)
    await poll(server, key.jwt(sid, "https://other.example.com", now_s(server)), ok=401)
    (credential,) = (await hands.get(f"/v1/Devices/{sid}/Credentials"))["credentials"]
    assert (credential["type"], credential["date_expires"]) == ("key", None)


async def test_a_repeat_gives_the_same_sid_uses_nothing_and_needs_the_proof(server, hands):
    grant, key = await new_token(hands, MaxUses="2"), Key()
    sid = (await enroll(server, grant["token"], key))["sid"]
    assert (await enroll(server, grant["token"], key, ok=200))["sid"] == sid
    await enroll(server, grant["token"], key, ok=401, proof=Key().proof(grant["token"], BASE, now_s(server)))
    assert (await hands.get(f"/v1/EnrollmentTokens/{grant['sid']}"))["uses"] == 1
    await enroll(server, grant["token"], Key())
    assert (await enroll(server, grant["token"], Key(), ok=403))["code"] == 20006
    assert (await enroll(server, grant["token"], key, ok=200))["sid"] == sid  # also when the token is used up
    assert len((await hands.get("/v1/Devices"))["devices"]) == 2


async def test_no_interleaving_lets_in_one_too_many(server, hands):
    grant = await new_token(hands, MaxUses="3")

    async def attempt(key):
        body = {"token": grant["token"], "public_key": key.public, "proof": key.proof(grant["token"], BASE, at)}
        return (await server.hands.http.post(ENROLL, json=body)).status_code

    at, same = now_s(server), Key()
    statuses = await asyncio.gather(*(attempt(key) for key in [same, same, *(Key() for _ in range(10))]))
    born = (await hands.get("/v1/Devices"))["devices"]
    assert len(born) == 3
    assert statuses.count(201) == 3
    assert (await hands.get(f"/v1/EnrollmentTokens/{grant['sid']}"))["uses"] == 3


@pytest.mark.parametrize("end", ["revoked", "over", "removed"])
async def test_an_ended_token_lets_nobody_in(server, hands, end):
    grant, early = await new_token(hands, MaxUses="9", Ttl="600"), Key()
    sid = (await enroll(server, grant["token"], early))["sid"]
    if end == "revoked":
        await hands.post(f"/v1/EnrollmentTokens/{grant['sid']}", Revoked="true")
    elif end == "removed":
        await hands.delete(f"/v1/EnrollmentTokens/{grant['sid']}")
    else:
        server.clock.advance(601)
    await enroll(server, grant["token"], Key(), ok=401 if end == "removed" else 403)
    await poll(server, early.jwt(sid, BASE, now_s(server)))  # whom it let in stays


async def test_a_wrong_proof_lets_nobody_in(server, hands):
    grant, key = await new_token(hands), Key()
    token, at = grant["token"], now_s(server)
    other = await new_token(hands)
    for proof in (
        key.proof(other["token"], BASE, at),
        key.proof(token, "https://else.example.com", at),
        key.sign({"sub": grant["sid"], "aud": BASE}),
        key.sign({"aud": BASE, "iat": at}),
        key.sign({"sub": grant["sid"], "aud": BASE, "iat": at}, {"alg": "none"}),
        "x",
        "",
    ):
        await enroll(server, token, key, ok=401, proof=proof)
    for away in (-301, 301):
        assert (await enroll(server, token, key, ok=401, proof=key.proof(token, BASE, at + away)))["code"] == SKEW
    for wrong in (token[:-1] + "x", "fve_x_y", "fvd_" + token[4:], f"fve_{'0' * 32}_{token[37:]}", "", "é"):
        await enroll(server, wrong, key, ok=401, proof=key.proof(token, BASE, at))
    await enroll(server, token, key, ok=400, public_key="04" + "11" * 64)
    for body in (b"", b"{}", b"[" * 40_000, b'{"token": 1, "public_key": "", "proof": ""}'):
        answer = await server.hands.http.post(ENROLL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
    assert (await hands.get("/v1/Devices"))["devices"] == []
    await enroll(server, token, key)


@pytest.mark.parametrize("how", ["removed", "disabled"])
async def test_the_key_of_a_device_that_was_put_out_is_refused_until_it_is_freed(server, hands, how):
    grant, key = await new_token(hands, MaxUses="5"), Key()
    sid = (await enroll(server, grant["token"], key))["sid"]
    if how == "removed":
        await hands.delete(f"/v1/Devices/{sid}")
    else:
        await hands.post(f"/v1/Devices/{sid}", Access="disabled")
    await enroll(server, grant["token"], key, ok=403)
    await poll(server, key.jwt(sid, BASE, now_s(server)), ok=401)
    if how == "disabled":
        await hands.post(f"/v1/Devices/{sid}", Access="active")
        await poll(server, key.jwt(sid, BASE, now_s(server)))
        return
    (refused,) = (await hands.get("/v1/RefusedKeys"))["refused_keys"]
    assert refused["device_sid"] == sid
    await hands.post("/v1/Devices", ok=201)
    await hands.delete(f"/v1/RefusedKeys/{refused['fingerprint']}")
    await hands.delete(f"/v1/RefusedKeys/{refused['fingerprint']}", ok=404)
    assert (await enroll(server, grant["token"], key))["sid"] != sid


async def test_a_signed_token_ends_and_a_wrong_clock_has_its_own_code(server, hands):
    key = Key()
    sid = (await enroll(server, (await new_token(hands))["token"], key))["sid"]
    token = key.jwt(sid, BASE, now_s(server), life_s=60)
    await poll(server, token)
    server.clock.advance(60 + 299)
    await poll(server, token)  # from memory, within the skew
    server.clock.advance(1)
    for _ in range(2):
        refused = await poll(server, token, ok=401)
        assert refused.json()["code"] == SKEW
        assert "date" in refused.headers
    early = key.jwt(sid, BASE, now_s(server) + 301)
    assert (await poll(server, early, ok=401)).json()["code"] == SKEW
    assert (await poll(server, key.jwt(sid, BASE, now_s(server), life_s=3601), ok=401)).json()["code"] == 20003


async def test_a_token_is_replaced_with_an_overlap(server, hands):
    made = await hands.device("d")
    path, old = "/v1/Devices/d/Credentials", made["device_token"]
    await poll(server, old)
    new = (await hands.post(path, ok=201, Type="token", Overlap="100")).json
    assert new["device_token"].startswith("fvd_")
    server.clock.advance(99)
    for token in (old, new["device_token"]):
        await poll(server, token)
    server.clock.advance(2)
    await poll(server, old, ok=401)
    await poll(server, new["device_token"])
    (left,) = (await hands.get(path))["credentials"]
    assert (left["fingerprint"], left["date_expires"]) == (new["fingerprint"], None)
    last = (await hands.post(path, ok=201, Type="token", Overlap="0")).json
    await poll(server, new["device_token"], ok=401)
    await poll(server, last["device_token"])


async def test_a_removed_credential_proves_nothing_from_the_next_request_on(server, hands):
    made, key = await hands.device("d"), Key()
    path = "/v1/Devices/d/Credentials"
    added = (await hands.post(path, ok=201, Type="key", PublicKey=key.public)).json
    assert (added["type"], added["device_token"]) == ("key", None)
    await hands.post(path, ok=409, Type="key", PublicKey=key.public)
    signed = key.jwt(made["sid"], BASE, now_s(server))
    for token in (signed, made["device_token"]):
        await poll(server, token)
    etag = (await poll(server, signed)).headers["etag"]
    held = asyncio.create_task(
        server.hands.http.get(
            f"{BASE}/device/v1/desired",
            headers={"authorization": f"Bearer {signed}", "if-none-match": etag, "prefer": "wait=60"},
        )
    )
    async with asyncio.timeout(10):
        while server.world.channel.held != 1:
            await asyncio.sleep(0.001)
    await hands.delete(f"{path}/{added['fingerprint']}")
    assert (await held).status_code == 401
    await poll(server, signed, ok=401)
    (token,) = (await hands.get(path))["credentials"]
    await hands.delete(f"{path}/{token['fingerprint']}")
    await poll(server, made["device_token"], ok=401)
    for fingerprint in (added["fingerprint"], token["fingerprint"], "x", "é", "0" * 64):
        await hands.delete(f"{path}/{fingerprint}", ok=404)


async def test_a_device_has_so_many_credentials_and_no_more(server, hands):
    await hands.device("d")
    for _ in range(server.limits.credentials_max - 1):
        await hands.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=Key().public)
    await hands.post("/v1/Devices/d/Credentials", ok=409, Type="key", PublicKey=Key().public)
    await hands.post("/v1/Devices/d/Credentials", ok=409, Type="token")
    for form in ({"Type": "x"}, {"Type": "key"}, {"Type": "key", "PublicKey": "x"}, {"Overlap": "x"}):
        await hands.post("/v1/Devices/d/Credentials", ok=400, **form)


class Newcomer(Board):
    """A DDI device that has its account's gateway token only."""

    def __init__(self, server, token, name, tenant="DEFAULT"):
        super().__init__(server, {"sid": "", "device_token": token}, name, tenant)

    async def call(self, method, url="", *, ok=200, body=None, **headers):
        return await super().call(method, url, ok=ok, body=body, authorization=f"GatewayToken {self.token}", **headers)


async def test_a_ddi_device_registers_itself_waits_and_is_accepted(server, hands):
    board = Newcomer(server, "fvg_none", "line%203%201")
    await board.call("GET", ok=401)
    assert (await hands.get("/v1/GatewayToken")).json | {"account_sid": ""} == {
        "account_sid": "",
        "enabled": False,
        "waiting": 0,
        "date_created": None,
    }
    await hands.delete("/v1/GatewayToken", ok=404)
    board.token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    for _ in range(2):
        assert await board.poll() == {"config": {"polling": {"sleep": "00:01:00"}}, "_links": {}}
    assert (await hands.get("/v1/GatewayToken"))["waiting"] == 1
    device = (await hands.get("/v1/Devices/line%203%201")).json
    assert device["access"] == "waiting"
    board.sid = device["sid"]
    app = await hands.app()
    await hands.post(f"/v1/Devices/{board.sid}", TargetApp=app["sid"])
    assert await board.links() == {}
    for method, path in [("PUT", "/configData"), ("GET", "/deploymentBase/1"), ("GET", "/installedBase/1")]:
        await board.call(method, path, ok=403, body={"data": {"a": "b"}} if method == "PUT" else None)
    await board.call("GET", f"/softwaremodules/{app['sid']}/artifacts", ok=403)
    await hands.post(f"/v1/Devices/{board.sid}", Access="active")
    assert "deploymentBase" in await board.links()
    await board.say(1)
    assert (await hands.get(f"/v1/Devices/{board.sid}"))["app"]["reported_sid"] == app["sid"]
    await hands.post(f"/v1/Devices/{board.sid}", Access="disabled")
    await board.call("GET", ok=401)


async def test_a_device_that_had_its_own_credential_refuses_the_gateways(server, hands):
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    own = await hands.device("own")
    await Newcomer(server, token, "own").call("GET", ok=401)
    await Newcomer(server, token, own["sid"]).call("GET", ok=401)
    board = Newcomer(server, token, "new")
    await board.poll()
    sid = (await hands.get("/v1/Devices/new"))["sid"]
    await hands.post("/v1/Devices/new", Access="active")
    by_sid = Newcomer(server, token, sid)
    for one in (board, by_sid):
        await one.poll()
    made = (await hands.post("/v1/Devices/new/Credentials", ok=201, Type="token")).json
    for one in (board, by_sid):  # both were in memory
        await one.call("GET", ok=401)
    await hands.delete(f"/v1/Devices/new/Credentials/{made['fingerprint']}")
    await board.call("GET", ok=401)
    await hands.delete("/v1/Devices/new")
    await board.poll()
    assert (await hands.get("/v1/Devices/new"))["access"] == "waiting"


async def test_a_gateway_token_is_replaced_and_taken_away_at_once(server, hands):
    first = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    board = Newcomer(server, first, "d")
    await board.poll()
    second = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    await board.call("GET", ok=401)
    board.token = second
    await board.poll()
    await hands.delete("/v1/GatewayToken")
    await board.call("GET", ok=401)
    assert (await hands.get("/v1/GatewayToken"))["enabled"] is False


async def test_names_that_can_be_no_devices_register_nothing(server, hands):
    token = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    for name in ("UV" + "0" * 32, "x" * 257, "%00", "a%2Fb", "%E9", ".."):
        answer = await hands.http.get(
            f"{BASE}/DEFAULT/controller/v1/{name}", headers={"authorization": f"GatewayToken {token}"}
        )
        assert answer.status_code in {400, 401, 404}, (name, answer.text)
    assert (await hands.get("/v1/Devices"))["devices"] == []


async def test_labels_are_set_and_removed_and_wrong_ones_change_nothing(hands):
    device = await hands.device("d", Labels=["site=graz", "a/b.c-d_e=x = y"])
    assert device["labels"] == {"a/b.c-d_e": "x = y", "site": "graz"}
    changed = await hands.post("/v1/Devices/d", Labels=["site=linz", "a/b.c-d_e-", "missing-", "ring=ü"])
    assert changed["labels"] == {"ring": "ü", "site": "linz"}
    for labels in (["x"], ["-"], ["=v"], ["k="], ["a b=c"], ["k" * 64 + "=v"], ["k=" + "v" * 129], ["k=a\tb"]):
        await hands.post("/v1/Devices/d", ok=400, Labels=["ok=1", *labels])
    for key in ("app", "target", "status", "access", "hardware", "seen", "name", "sid", "in", "not"):
        await hands.post("/v1/Devices/d", ok=400, Labels=f"{key}=v")
    await hands.post("/v1/Devices/d", ok=400, Labels=["k=1", "k=2"])
    await hands.post("/v1/Devices/d", ok=400, Labels=[f"k{n}=v" for n in range(31)])
    assert (await hands.get("/v1/Devices/d"))["labels"] == {"ring": "ü", "site": "linz"}
    await hands.post("/v1/Devices/d", Labels=[f"k{n}=v" for n in range(30)])
    assert len((await hands.get("/v1/Devices/d"))["labels"]) == 32


async def test_another_accounts_identity_does_not_exist(server, hands):
    stranger = await server.stranger()
    grant, made, key = await new_token(hands, MaxUses="9"), await hands.device("d"), Key()
    await hands.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public)
    (token, own_key) = (await hands.get("/v1/Devices/d/Credentials"))["credentials"]
    for path in (f"/v1/EnrollmentTokens/{grant['sid']}", f"/v1/Devices/{made['sid']}/Credentials"):
        await stranger.get(path, ok=404)
    await stranger.post(f"/v1/EnrollmentTokens/{grant['sid']}", ok=404, Revoked="true")
    await stranger.delete(f"/v1/EnrollmentTokens/{grant['sid']}", ok=404)
    await stranger.post(f"/v1/Devices/{made['sid']}/Credentials", ok=404, Type="token")
    for fingerprint in (token["fingerprint"], own_key["fingerprint"]):
        await stranger.delete(f"/v1/Devices/{made['sid']}/Credentials/{fingerprint}", ok=404)
    await stranger.device("mine")
    await stranger.delete(f"/v1/Devices/mine/Credentials/{own_key['fingerprint']}", ok=404)
    await stranger.delete(f"/v1/RefusedKeys/{own_key['fingerprint']}", ok=404)
    gateway = (await stranger.post("/v1/GatewayToken", ok=201))["gateway_token"]
    await Newcomer(server, gateway, "d").call("GET", ok=401)
    await Newcomer(server, gateway, "new").call("GET", ok=401)
    await Newcomer(server, gateway, "d", tenant=stranger.auth[0]).poll()  # a device of its own by that name
    assert (await stranger.get("/v1/Devices/d"))["access"] == "waiting"
    await hands.delete(f"/v1/Devices/{made['sid']}")
    assert (await stranger.get("/v1/RefusedKeys"))["refused_keys"] == []
    foreign = await new_token(stranger)
    sid = (await enroll(server, foreign["token"], key))["sid"]  # refused there does not mean refused here
    await hands.get(f"/v1/Devices/{sid}", ok=404)
