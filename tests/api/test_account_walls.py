"""No credential of one account reaches anything of another: every operation of the document, every way to prove oneself."""

import itertools
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.test_identity import enroll, new_token, now_s
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

LISTS = ("Devices", "Apps", "Configs", "Secrets", "Keys", "EnrollmentTokens", "RefusedKeys", "Rollouts", "Events")
CHANGES = (  # forms that would change something, were they let
    {"UniqueName": "taken", "Access": "disabled", "Labels": "stolen=yes", "TargetApp": "", "RestartApp": "true"},
    {"Key": "stolen", "Value": "stolen"},
    {"Value": "stolen"},
    {"Type": "token"},
    {"Revoked": "true"},
    {"Action": "abort"},
    {"MaxConcurrent": "7"},
)


class House:
    """An account with one of everything, and the names of it all."""

    def __init__(self, server, hands):
        self.server, self.hands = server, hands
        self.key = Key()

    async def furnish(self):
        hands, server = self.hands, self.server
        self.app = await hands.app("app", b"firmware of " + hands.auth[0].encode())
        self.devices = {name: await hands.device(name, Labels="site=x") for name in ("plain", "off", "native")}
        await hands.post("/v1/Devices/off", Access="disabled")
        for name in ("plain", "native"):
            await hands.post(f"/v1/Devices/{name}", TargetApp="app")
        for store in ("Configs", "Secrets"):
            await hands.post(f"/v1/{store}", ok=201, Key="k", Value=f"account {hands.auth[0]}")
            await hands.post(f"/v1/Devices/plain/{store}", ok=201, Key="k", Value=f"device {hands.auth[0]}")
        self.added = (
            await hands.post("/v1/Devices/plain/Credentials", ok=201, Type="key", PublicKey=self.key.public)
        ).json
        gone = await hands.device("gone")
        refused = Key()
        self.refused = await hands.post(
            f"/v1/Devices/{gone['sid']}/Credentials", ok=201, Type="key", PublicKey=refused.public
        )
        await hands.delete("/v1/Devices/gone")
        self.api_keys = [
            (await hands.post("/v1/Keys", ok=201, Role=role)).json for role in ("viewer", "operator", "admin")
        ]
        self.grant = await new_token(hands, MaxUses="5")
        self.born = (await enroll(server, self.grant["token"], Key()))["sid"]
        self.rollout = (await hands.post("/v1/Rollouts", ok=201, App="app", Selector="label.site=x", Soak=600)).json
        await hands.post(f"/v1/Rollouts/{self.rollout['sid']}", Action="start")
        await server.world.rollouts.tick()
        self.gateway = (await hands.post("/v1/GatewayToken", ok=201))["gateway_token"]
        self.secondary = (await hands.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"]
        url = f"{BASE}/{hands.auth[0]}/controller/v1"
        for name in ("waiting", "accepted"):
            await hands.http.get(f"{url}/{name}", headers={"authorization": f"GatewayToken {self.gateway}"})
        await hands.post("/v1/Devices/accepted", Access="active")
        desired = await hands.http.get(f"{BASE}/device/v1/desired", headers=self.bearer(self.token))
        self.manifest = desired.json()["app"]["manifest"]
        self.layer = desired.json()["app"]["layers"][0]["sha256"]
        return self

    @property
    def token(self):
        return self.devices["native"]["device_token"]

    @staticmethod
    def bearer(token):
        return {"authorization": f"Bearer {token}"}

    def jwt(self, sid=None):
        return self.key.jwt(sid or self.devices["plain"]["sid"], BASE, now_s(self.server))

    def callers(self):
        """Everybody who may speak for this account over the REST API."""
        pairs = [self.hands.auth, (self.hands.auth[0], self.secondary)]
        pairs += [(key["sid"], key["secret"]) for key in self.api_keys]
        return [self.server.as_account(*pair) for pair in pairs]

    def names(self):
        """What this account's things are called in paths, by the place in the path's template."""
        devices = [device["sid"] for device in self.devices.values()] + [self.born]
        return {
            "Sid": [
                *devices,
                self.app["sid"],
                self.rollout["sid"],
                self.grant["sid"],
                *(key["sid"] for key in self.api_keys),
            ],
            "DeviceSid": devices,
            "AppSid": [self.app["sid"]],
            "RolloutSid": [self.rollout["sid"]],
            "Key": ["k"],
            "Number": ["1"],
            "Fingerprint": [self.added["fingerprint"], self.refused["fingerprint"]],
        }

    async def state(self):
        """All that there is to see of it, but for what it was refused."""
        found = {}
        for name in LISTS:
            path = f"/v1/{name}"
            rows = await self.hands.walk(path, json_key(name), PageSize=1000)
            found[name] = [row for page in rows for row in page if row.get("type") != "request.denied"]
        for sid in [device["sid"] for device in found["Devices"]]:
            for part in ("Configs", "Secrets", "Credentials", "Updates", "Attributes", "Penalties"):
                found[sid, part] = (await self.hands.get(f"/v1/Devices/{sid}/{part}")).json
        for key in found["Keys"]:
            key.pop("date_last_used")
        return found


def json_key(name):
    return {"EnrollmentTokens": "enrollment_tokens", "RefusedKeys": "refused_keys"}.get(name, name.lower())


async def two_houses(server):
    ours = await House(server, server.hands).furnish()
    theirs = await House(server, await server.stranger()).furnish()
    return ours, theirs


def operations(document, names):
    """Every operation with a name of somebody's in its path, with every such name."""
    for template, item in document["paths"].items():
        places = [part[1:-1] for part in template.split("/") if part.startswith("{")]
        for given_names in itertools.product(*(names[place] for place in places)):
            path = template
            for place, name in zip(places, given_names, strict=True):
                path = path.replace(f"{{{place}}}", name, 1)
            for method in item:
                if places and places != ["Key"]:  # an account's own Configs are its own
                    yield method.upper(), path


async def test_no_operation_reaches_another_accounts_things(server):
    """Each operation of the document, with each name of the other's; nothing is found, nothing changes."""
    ours, theirs = await two_houses(server)
    document = (await ours.hands.get("/openapi.json")).json
    before, tried = await ours.state(), 0
    caller = theirs.hands
    for method, path in operations(document, ours.names()):
        for form in CHANGES if method == "POST" else ({},):
            reply = await caller.call(method, path, **({"data": form} if method == "POST" else {}))
            # Accounts are the first account's alone: nobody else learns which there are.
            alone = reply.status == 403 and path.startswith("/v1/Accounts")
            assert alone or reply.status in {404, 405} or (reply.status == 400 and method == "POST"), (
                f"{method} {path} {form}: {reply}"
            )
            assert ours.hands.auth[0] not in reply.text
            tried += 1
    assert tried > 100
    for form in ({"TargetApp": ours.app["sid"]}, {"AppSid": ours.app["sid"]}):
        await caller.post("/v1/Devices/plain", ok=400, **form)
    for field in ("target", "app"):  # a SID that no device of the caller's has: whosever it is, it selects none
        found = await caller.get("/v1/Devices", Selector=f"{field}={ours.app['sid']}")
        assert found.json["devices"] == []
    page = (await ours.hands.get("/v1/Devices", PageSize=1))["meta"]["next_page_url"]
    await caller.get(page, ok=400)
    await caller.post("/v1/Devices", ok=409, Sid=ours.devices["plain"]["sid"])
    mine = {device["sid"] for device in ours.devices.values()}
    shown = json.dumps([str(rows) for rows in (await theirs.state()).values()])
    assert not [sid for sid in mine if sid in shown]
    assert await ours.state() == before


async def test_no_device_credential_reaches_another_accounts_devices(server):
    """Each credential of their devices, in each scheme, on each path of our devices: never a byte of ours."""
    ours, theirs = await two_houses(server)
    before = await ours.state()
    sids = [device["sid"] for device in ours.devices.values()]
    tokens = [theirs.token, theirs.jwt(), theirs.jwt(sids[0]), theirs.gateway, theirs.grant["token"], theirs.secondary]
    native = [("GET", f"/device/v1/manifests/{ours.manifest}"), ("GET", f"/device/v1/layers/{ours.layer}")]
    ddi = [
        (method, f"/{tenant}/controller/v1/{name}{part}")
        for tenant in ("DEFAULT", "default", ours.hands.auth[0])
        for name in [*sids, "plain", "accepted", "waiting"]
        for method, part in [
            ("GET", ""),
            ("GET", "/deploymentBase/1"),
            ("POST", "/deploymentBase/1/feedback"),
            ("PUT", "/configData"),
            ("GET", f"/softwaremodules/{ours.app['sid']}/artifacts/{ours.app['sid']}.bin"),
        ]
    ]
    feedback = {"id": "1", "status": {"execution": "closed", "result": {"finished": "success"}}, "data": {"a": "b"}}
    for token, scheme in itertools.product(tokens, ("Bearer", "TargetToken", "GatewayToken", "Basic")):
        for method, path in native + ddi:
            headers = {"authorization": f"{scheme} {token}"}
            body = feedback if method in {"POST", "PUT"} else None
            answer = await server.hands.http.request(method, BASE + path, headers=headers, json=body)
            assert answer.status_code in {401, 404, 429}, f"{scheme} {token[:12]} {method} {path}: {answer.text}"
    assert await ours.state() == before


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_no_order_of_calls_breaks_the_wall(tmp_path_factory, data):
    """Both accounts work at once, in an order made by chance; one sees and moves its own things only."""
    async with serving(memory(), tmp_path_factory.mktemp("walls")) as server:
        ours, theirs = await two_houses(server)
        document = (await ours.hands.get("/openapi.json")).json
        crossings = list(operations(document, ours.names()))
        before = await ours.state()
        for _ in range(30):
            caller = data.draw(st.sampled_from(theirs.callers()))
            own = data.draw(st.integers(0, 3))
            if own == 0:
                await caller.call("POST", "/v1/Devices/plain", data=data.draw(st.sampled_from(CHANGES)))
            elif own == 1:
                await caller.call("POST", "/v1/Configs/k", data={"Value": "w"})
            else:
                method, path = data.draw(st.sampled_from(crossings))
                form = data.draw(st.sampled_from(CHANGES)) if method == "POST" else {}
                reply = await caller.call(method, path, **({"data": form} if form else {}))
                assert reply.status in {400, 401, 403, 404, 405}, f"{method} {path} {form}: {reply}"
        assert await ours.state() == before
