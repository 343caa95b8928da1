"""Every operation, asked by everybody: 401 for who is nobody, 403 for who may not, and never either for who may.

The operations are those of the served documents, so a new one is asked at once; without a row in ``ADMIN`` or ``TOKEN``
below it must keep to the rule of the roles: ``GET`` is a viewer's, all else an operator's. Each request is misspelt
besides: whoever may not is not told of that, and nothing is done for who may.
"""

import re

import pytest
from tests.api.test_identity import new_token
from tests.api.test_operators import key_hands
from tests.api.test_tenants import close
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

ADMIN = {
    ("POST", "/v1/Keys"),
    ("DELETE", "/v1/Keys/{Sid}"),
    ("POST", "/v1/EnrollmentTokens"),
    ("POST", "/v1/EnrollmentTokens/{Sid}"),
    ("DELETE", "/v1/EnrollmentTokens/{Sid}"),
    ("POST", "/v1/GatewayToken"),
    ("DELETE", "/v1/GatewayToken"),
    ("POST", "/v1/Devices/{DeviceSid}/Credentials"),
    ("DELETE", "/v1/Devices/{DeviceSid}/Credentials/{Fingerprint}"),
    ("DELETE", "/v1/RefusedKeys/{Fingerprint}"),
}
FIRST = {  # the first account's Auth Token alone
    ("GET", "/v1/Accounts"),
    ("POST", "/v1/Accounts"),
    ("GET", "/v1/Accounts/{Sid}"),
    ("POST", "/v1/Accounts/{Sid}"),
    ("DELETE", "/v1/Accounts/{Sid}"),
}
TOKEN = {  # an Auth Token of the account
    ("POST", "/v1/AuthTokens/Secondary"),
    ("DELETE", "/v1/AuthTokens/Secondary"),
    ("POST", "/v1/AuthTokens/Promote"),
}
MANY = {"failed_proofs_max": 100_000, "failed_proofs_per_address_max": 100_000}
RANK = {"viewer": 0, "operator": 1, "admin": 2, "token": 3, "first": 4}
FORM = {"content-type": "application/x-www-form-urlencoded"}
DDI = (
    ("GET", "", True),
    ("PUT", "/configData", False),
    ("GET", "/confirmationBase", False),
    ("POST", "/confirmationBase/activateAutoConfirm", False),
    ("POST", "/confirmationBase/deactivateAutoConfirm", False),
    ("GET", "/confirmationBase/1", False),
    ("POST", "/confirmationBase/1/feedback", False),
    ("GET", "/deploymentBase/1", False),
    ("POST", "/deploymentBase/1/feedback", False),
    ("GET", "/installedBase/1", False),
    ("GET", "/cancelAction/1", False),
    ("POST", "/cancelAction/1/feedback", False),
    ("GET", "/softwaremodules/1/artifacts", False),
    ("GET", "/softwaremodules/1/artifacts/x.bin", False),
    ("GET", "/softwaremodules/1/artifacts/x.bin.MD5SUM", False),
    ("GET", "/nothing", False),
)


@pytest.fixture
async def server(tmp_path):
    """No engine differs here."""
    async with serving(memory(), tmp_path, **MANY) as running:
        yield running


def needed(method, template):
    """Return what the reference says an operation needs."""
    place = (method, template)
    if place in FIRST:
        return "first"
    if place in TOKEN:
        return "token"
    return "admin" if place in ADMIN else "viewer" if method == "GET" else "operator"


async def operations(hands):
    document = (await hands.get("/openapi.json")).json
    found = [(method.upper(), template) for template, item in document["paths"].items() for method in item]
    assert len(found) > 50
    assert set(found) >= ADMIN | FIRST | TOKEN, "a row of the tables above names an operation that is gone"
    return found


async def ask(caller, method, template):
    path = re.sub(r"\{\w+\}", "x", template)
    parts = {"params": {"Nonsense": "1"}}
    if method == "POST":
        parts |= {"content": b"Nonsense=1", "headers": FORM}
    return await caller.call(method, path, **parts)


async def furnish(server, hands):
    """Give an account one of each credential."""
    device = await hands.device("d")
    key = (await hands.post("/v1/Keys", ok=201, Role="admin")).json
    grant = (await new_token(hands))["token"]
    gateway = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
    signer = Key()
    await hands.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=signer.public)
    signed = signer.jwt(device["sid"], BASE, server.clock.now() // 1000)
    return {"device": device, "key": key, "enrolment": grant, "gateway": gateway, "signed": signed}


async def nobodies(server):
    """Return everybody who is nobody to the REST API, by what they hold: user name and password."""
    hands, account = server.hands, server.hands.auth[0]
    own = await furnish(server, hands)
    found = {"no credentials": None, "a wrong token": (account, "0" * 32), "an empty token": (account, "")}
    sid, key = own["device"]["sid"], own["key"]
    for name in ("enrolment", "gateway", "signed"):
        found[f"{name} as password"] = (account, own[name])
        found[f"{name} as a device's"] = (sid, own[name])
    found["a device token as password"] = (account, own["device"]["device_token"])
    found["a device and its token"] = (sid, own["device"]["device_token"])
    found["a key's secret as Auth Token"] = (account, key["secret"])
    found["the Auth Token as a key's secret"] = (key["sid"], hands.auth[1])
    removed = (await hands.post("/v1/Keys", ok=201, Role="admin")).json
    expired = (await hands.post("/v1/Keys", ok=201, Role="admin", Ttl=60)).json
    await server.as_account(removed["sid"], removed["secret"]).get("/v1/Devices")
    await hands.delete(f"/v1/Keys/{removed['sid']}")
    await server.as_account(expired["sid"], expired["secret"]).get("/v1/Devices")
    found["a removed key"] = (removed["sid"], removed["secret"])
    found["an expired key"] = (expired["sid"], expired["secret"])
    for name in ("ended", "suspended", "ending"):  # the job takes all that are ending at once
        stranger = await server.stranger()
        theirs = await furnish(server, stranger)
        path = f"/v1/Accounts/{stranger.auth[0]}"
        await (hands.post(path, Status="suspended") if name == "suspended" else hands.delete(path))
        if name == "ended":
            await close(server)
        found[f"the Auth Token of an account that is {name}"] = stranger.auth
        found[f"a key of an account that is {name}"] = (theirs["key"]["sid"], theirs["key"]["secret"])
    old = await server.stranger()
    await old.post("/v1/AuthTokens/Secondary", ok=201)
    await old.post("/v1/AuthTokens/Promote")
    found["an Auth Token that was replaced"] = old.auth
    server.clock.advance(61)
    return found


async def test_whoever_is_nobody_is_401_at_every_operation(server):
    asked = 0
    for name, auth in (await nobodies(server)).items():
        caller = server.nobody() if auth is None else server.as_account(*auth)
        for method, template in await operations(server.hands):
            reply = await ask(caller, method, template)
            assert reply.status == 401, (name, method, template, reply)
            assert reply.headers["www-authenticate"].startswith("Basic")
            asked += 1
    assert asked > 1000


async def test_every_role_may_what_the_reference_says_and_is_403_elsewhere(server):
    hands = server.hands
    second = (await hands.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"]
    stranger = await server.stranger()
    callers = [(role, (await key_hands(server, Role=role))[0], role) for role in ("viewer", "operator", "admin")]
    made = (await stranger.post("/v1/Keys", ok=201, Role="admin")).json
    callers += [
        ("another account's admin", server.as_account(made["sid"], made["secret"]), "admin"),
        ("another account's Auth Token", stranger, "token"),
        ("the secondary Auth Token", server.as_account(hands.auth[0], second), "first"),
        ("the Auth Token", hands, "first"),
    ]
    for method, template in await operations(hands):
        role = needed(method, template)
        for name, caller, rank in callers:
            reply = await ask(caller, method, template)
            if RANK[rank] < RANK[role]:
                assert (reply.status, reply["code"]) == (403, 20006), (name, method, template, reply)
            elif (method, template) in TOKEN:
                assert reply.status == 400, (name, method, template, reply)
            else:
                assert reply.status in {200, 201, 204, 400, 404, 415}, (name, method, template, reply)


async def native_operations(hands):
    document = (await hands.http.get(BASE + "/device/v1/openapi.json")).json()
    found = []
    for template, item in document["paths"].items():
        if not template.endswith(("/enroll", "/openapi.json")):  # these prove nobody by a header
            found += [(method.upper(), template.replace("{sha256}", "0" * 64)) for method in item if method != "head"]
    assert len(found) >= 5
    return found


async def knock(server, method, path, authorization):
    headers = {"content-type": "application/json"} | ({} if authorization is None else {"authorization": authorization})
    content = b"{" if method in {"POST", "PUT"} else None
    return await server.hands.http.request(method, BASE + path, headers=headers, content=content)


async def test_whoever_is_no_device_is_401_at_every_operation_for_devices(server):
    hands, account = server.hands, server.hands.auth[0]
    own = await furnish(server, hands)
    tokens = {"nothing": None, "wrong": "0" * 32, "the Auth Token": hands.auth[1], "a key": own["key"]["secret"]}
    tokens |= {"enrolment": own["enrolment"], "unsigned": own["signed"].rpartition(".")[0] + "."}
    for name in ("disabled", "removed", "credential removed"):
        device = await hands.device()
        tokens[name] = device["device_token"]
        assert (await knock(server, "GET", "/device/v1/desired", f"Bearer {tokens[name]}")).status_code == 200
        path = f"/v1/Devices/{device['sid']}"
        if name == "disabled":
            await hands.post(path, Access="disabled")
        elif name == "removed":
            await hands.delete(path)
        else:
            [only] = (await hands.get(path + "/Credentials"))["credentials"]
            await hands.delete(f"{path}/Credentials/{only['fingerprint']}")
    for name in ("ended", "suspended", "ending"):
        stranger = await server.stranger()
        theirs = await furnish(server, stranger)
        tokens |= {f"device, {name}": theirs["device"]["device_token"], f"signed, {name}": theirs["signed"]}
        tokens |= {f"gateway, {name}": theirs["gateway"]}
        path = f"/v1/Accounts/{stranger.auth[0]}"
        await (hands.post(path, Status="suspended") if name == "suspended" else hands.delete(path))
        if name == "ended":
            await close(server)
    ddi = [(method, f"/{tenant}/controller/v1/d{rest}") for tenant in ("DEFAULT", account) for method, rest, _ in DDI]
    for name, token in tokens.items():
        schemes = ("Bearer", "TargetToken", "GatewayToken", "Basic") if token else ("",)
        for scheme in schemes:
            authorization = f"{scheme} {token}" if token else None
            for method, path in [*await native_operations(hands), *ddi]:
                answer = await knock(server, method, path, authorization)
                assert answer.status_code == 401, (name, scheme, method, path, answer.text)
                assert "www-authenticate" in answer.headers


async def test_a_device_may_all_of_its_own_and_one_that_waits_only_poll(server):
    hands, account = server.hands, server.hands.auth[0]
    own = await furnish(server, hands)
    token, signed, gateway = own["device"]["device_token"], own["signed"], own["gateway"]
    for proof in (token, signed):
        for method, path in await native_operations(hands):
            answer = await knock(server, method, path, f"Bearer {proof}")
            assert answer.status_code in {200, 400, 404}, (method, path, answer.text)
        for method, rest, _ in DDI:
            answer = await knock(server, method, f"/{account}/controller/v1/d{rest}", f"TargetToken {proof}")
            assert answer.status_code in {200, 400, 404, 405}, (method, rest, answer.text)
    for method, rest, polls in DDI:
        answer = await knock(server, method, f"/{account}/controller/v1/fresh{rest}", f"GatewayToken {gateway}")
        assert answer.status_code == (200 if polls else 403), (method, rest, answer.text)
    await hands.post("/v1/Devices/fresh", Access="active")
    for method, rest, _ in DDI:
        answer = await knock(server, method, f"/{account}/controller/v1/fresh{rest}", f"GatewayToken {gateway}")
        assert answer.status_code in {200, 400, 404, 405}, (method, rest, answer.text)
        answer = await knock(server, method, f"/{account}/controller/v1/d{rest}", f"GatewayToken {gateway}")
        assert answer.status_code == 401, "it has a credential of its own"
