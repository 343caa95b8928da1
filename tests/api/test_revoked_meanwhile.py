"""What is taken back while a request is on its way ends that request too, and leaves no trust behind in memory."""

import asyncio
import contextlib

import pytest
from tests.api.test_identity import poll
from tests.api.test_operators import events
from tests.api.test_tenants import close, left_of
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import memory

FORM = "application/x-www-form-urlencoded"
CSV = b"name,token_hash,labels\nlate," + b"0" * 64 + b",\n"


class Slow:
    """A request whose body's end is held back until ``finish``; it is proven by then."""

    def __init__(self, server, method, path, body, *, media=FORM, auth=None, headers=None):
        self._rest = asyncio.Event()
        self._begun = asyncio.Event()
        half = len(body) // 2

        async def content():
            yield body[:half]
            self._begun.set()
            await self._rest.wait()
            yield body[half:]

        sent = {"content-type": media} | (headers or {})
        self._task = asyncio.create_task(
            server.hands.http.request(method, BASE + path, content=content(), headers=sent, auth=auth)
        )

    async def begin(self):
        await asyncio.wait_for(self._begun.wait(), 10)
        await asyncio.sleep(0.05)  # the server has read the first half, so it has proven who sends
        assert not self._task.done()
        return self

    async def finish(self):
        self._rest.set()
        return await asyncio.wait_for(self._task, 10)


UPLOAD = (
    b'--b\r\ncontent-disposition: form-data; name="Kind"\r\n\r\nraw\r\n'
    b'--b\r\ncontent-disposition: form-data; name="File"; filename="f"\r\n\r\n' + b"x" * 4000 + b"\r\n--b--\r\n"
)
WRITES = [
    ("/v1/Devices", b"UniqueName=late", FORM),
    ("/v1/Keys", b"Role=viewer", FORM),
    ("/v1/EnrollmentTokens", b"MaxUses=1000", FORM),
    ("/v1/Devices/d/Credentials", b"Type=token", FORM),
    ("/v1/Secrets", b"Key=late&Value=v", FORM),
    ("/v1/DeviceImports", CSV, "text/csv"),
    ("/v1/Apps", UPLOAD, "multipart/form-data; boundary=b"),
]


@pytest.mark.parametrize(("path", "body", "media"), WRITES, ids=[path for path, _, _ in WRITES])
@pytest.mark.parametrize("end", ["removed", "expired", "suspended"])
async def test_a_key_that_ends_while_its_request_arrives_changes_nothing(server, path, body, media, end):
    stranger = await server.stranger()
    await stranger.device("d")
    made = (await stranger.post("/v1/Keys", ok=201, Role="admin", Ttl=60)).json
    before = len(await events(stranger))
    slow = await Slow(server, "POST", path, body, media=media, auth=(made["sid"], made["secret"])).begin()
    if end == "removed":
        await stranger.delete(f"/v1/Keys/{made['sid']}")
    elif end == "expired":
        server.clock.advance(61)
    else:
        await server.hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    answer = await slow.finish()
    assert answer.status_code == 401, answer.text
    if end == "suspended":
        await server.hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="active")
    types = [event["type"] for event in await events(stranger)][: -before or None]
    assert set(types) <= {"key.deleted", "account.suspended", "account.resumed", "request.denied"}
    again = server.as_account(made["sid"], made["secret"])
    await again.get("/v1/Devices", ok=200 if end == "suspended" else 401)


async def test_an_auth_token_that_is_replaced_while_its_request_arrives_changes_nothing(server, hands):
    old = hands.auth
    new = (await hands.post("/v1/AuthTokens/Secondary", ok=201))["secondary_auth_token"]
    slow = await Slow(server, "POST", "/v1/Keys", b"Role=admin", auth=old).begin()
    await hands.post("/v1/AuthTokens/Promote")
    assert (await slow.finish()).status_code == 401
    fresh = server.as_account(old[0], new)
    assert (await fresh.get("/v1/Keys"))["keys"] == []


NATIVE = [
    ("POST", "/device/v1/report", b'{"journal":"%s","sequence":1,"boot_count":1}' % (b"a" * 32)),
    ("POST", "/device/v1/configs/fetch", b'{"items":[{"scope":"account","store":"secret","key":"pin"}]}'),
]
DDI = [
    ("PUT", "/{}/controller/v1/{}/configData", b'{"data":{"late":"yes"}}'),
    (
        "POST",
        "/{}/controller/v1/{}/deploymentBase/1/feedback",
        b'{"status":{"execution":"closed","result":{"finished":"success"}}}',
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), [*NATIVE, *DDI], ids=[path for _, path, _ in [*NATIVE, *DDI]])
@pytest.mark.parametrize("end", ["disabled", "credential", "suspended", "removed"])
@pytest.mark.parametrize("proof", ["token", "signed"])
async def test_a_device_that_is_put_out_while_its_request_arrives_is_refused(server, method, path, body, end, proof):
    stranger = await server.stranger()
    await stranger.post("/v1/Secrets", ok=201, Key="pin", Value="hunter2")
    device = await stranger.device("d", AccountSecrets="true")
    key = Key()
    credential = {"fingerprint": ""}
    token = device["device_token"]
    if proof == "signed":
        made = await stranger.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public)
        credential, token = made.json, key.jwt(device["sid"], BASE, server.clock.now() // 1000)
    scheme = "TargetToken" if "{}" in path else "Bearer"
    path = path.format(stranger.auth[0], "d")
    headers = {"authorization": f"{scheme} {token}"}
    slow = await Slow(server, method, path, body, media="application/json", headers=headers).begin()
    if end == "disabled":
        await stranger.post("/v1/Devices/d", Access="disabled")
    elif end == "removed":
        await stranger.delete("/v1/Devices/d")
    elif end == "suspended":
        await server.hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    else:
        prints = (await stranger.get("/v1/Devices/d/Credentials"))["credentials"]
        [wanted] = [one for one in prints if (one["fingerprint"] == credential["fingerprint"]) == (proof == "signed")]
        await stranger.delete(f"/v1/Devices/d/Credentials/{wanted['fingerprint']}")
    answer = await slow.finish()
    assert answer.status_code == 401, answer.text
    assert "hunter2" not in answer.text
    await poll(server, token, ok=401)


@pytest.mark.parametrize("end", ["suspended", "removed"])
async def test_no_trust_is_kept_that_was_read_while_it_was_taken_back(server, end, monkeypatch):
    """The look-up's answer comes after the change that it does not show."""
    stranger = await server.stranger()
    device = await stranger.device("d")
    made = (await stranger.post("/v1/Keys", ok=201, Role="admin")).json
    key = server.as_account(made["sid"], made["secret"])
    real, held, go = server.world.db.one, asyncio.Event(), asyncio.Event()
    waiting = 0

    async def late(shape, sql, values):
        nonlocal waiting
        row = await real(shape, sql, values)
        if not go.is_set() and ("FROM keys" in sql or "device_tokens" in sql or "token_hash" in sql):
            waiting += 1
            if waiting == 2:
                held.set()
            await go.wait()
        return row

    with monkeypatch.context() as patched:
        patched.setattr(server.world.db, "one", late)  # lets something happen between a read and what follows
        by_key = asyncio.create_task(key.call("GET", "/v1/Devices"))
        by_token = asyncio.create_task(
            server.hands.http.get(
                f"{BASE}/device/v1/desired", headers={"authorization": f"Bearer {device['device_token']}"}
            )
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(held.wait(), 5)
        assert waiting == 2
    if end == "suspended":
        await server.hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    else:
        await stranger.delete(f"/v1/Keys/{made['sid']}")
        await stranger.delete("/v1/Devices/d")
    go.set()
    await asyncio.gather(by_key, by_token)
    await key.get("/v1/Devices", ok=401)
    await poll(server, device["device_token"], ok=401)


@pytest.mark.parametrize(("path", "body", "media"), WRITES, ids=[path for path, _, _ in WRITES])
async def test_what_is_committed_after_an_account_went_leaves_nothing_of_it(tmp_path, path, body, media, monkeypatch):
    """The request was proven, and waits for its transaction until the account has ended and gone."""
    async with serving(memory(), tmp_path) as server:
        stranger = await server.stranger()
        device = await stranger.device("d")
        real, held, go = server.world.db.write, asyncio.Event(), asyncio.Event()

        async def late(body, *args, **options):
            held.set()
            await go.wait()
            return await real(body, *args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(server.world.db, "write", late)  # lets something happen between a write and what follows
            headers = {"content-type": media}
            task = asyncio.create_task(
                server.hands.http.post(BASE + path, content=body, headers=headers, auth=stranger.auth)
            )
            await asyncio.wait_for(held.wait(), 10)
        await server.hands.delete(f"/v1/Accounts/{stranger.auth[0]}")
        await close(server)
        await server.hands.get(f"/v1/Accounts/{stranger.auth[0]}", ok=404)
        go.set()
        answer = await asyncio.wait_for(task, 10)
        assert 400 <= answer.status_code < 500, answer.text
        left = await left_of(server.world.db, stranger.auth[0], device["sid"])
        assert [table for table, _ in left if table != "update_numbers"] == []
