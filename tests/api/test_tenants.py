"""Accounts of one server: listed, suspended, ended; and devices that move from one to another."""

import asyncio

import msgspec
import pytest
from tests.api.test_identity import enroll, new_token, now_s, poll
from tests.api.test_operators import events, key_hands
from tests.api.world import BASE, serving
from tests.jws import Key

from fleetvisor.db.sqlite import open_sqlite


class Number(msgspec.Struct):
    number: int


class Name(msgspec.Struct):
    name: str


TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


async def close(server):
    """Do what the background job does, until there is nothing more to do."""
    [job] = [job for job in server.world.jobs if job.name == "accounts"]
    return await job.run()


async def furnish(server, hands, key):
    """Give an account one of everything; return its device."""
    device = await hands.device("d", Labels="site=x")
    app = await hands.app("app", b"firmware of " + hands.auth[0].encode())
    await hands.post("/v1/Devices/d", TargetApp="app")
    await hands.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public)
    for path in ("/v1/Configs", "/v1/Secrets", "/v1/Devices/d/Configs", "/v1/Devices/d/Secrets"):
        await hands.post(path, ok=201, Key="k", Value="v")
    await hands.post("/v1/Keys", ok=201, Role="admin")
    await hands.post("/v1/GatewayToken", ok=201)
    gone = await hands.device()
    await hands.post(f"/v1/Devices/{gone['sid']}/Credentials", ok=201, Type="key", PublicKey=Key().public)
    await hands.delete(f"/v1/Devices/{gone['sid']}")
    rollout = (await hands.post("/v1/Rollouts", ok=201, App="app", Selector="label.site=x")).json
    await hands.post(f"/v1/Rollouts/{rollout['sid']}", Action="start")
    for _ in range(3):
        await server.world.rollouts.tick()
    return device, app


async def number_of(hands, ref):
    """Return the number of a device's newest update."""
    return (await hands.get(f"/v1/Devices/{ref}"))["update"]["number"]


async def left_of(db, account_sid, device_sid):
    """Every table that still has a row of the account or its device (SQLite)."""
    found = []
    for table in await db.all(Name, TABLES, {}):
        columns = {row.name for row in await db.all(Name, f"SELECT name FROM pragma_table_info('{table.name}')", {})}
        for column, value in (("account_sid", account_sid), ("device_sid", device_sid)):
            if column in columns:
                sql = f"SELECT count(*) AS number FROM {table.name} WHERE {column} = :value"
                if (await db.one(Number, sql, {"value": value})).number:
                    found.append((table.name, column))
    return found


# who may, and what is seen


async def test_only_the_first_accounts_auth_token_sees_and_changes_accounts(server, hands):
    stranger = await server.stranger()
    key, _ = await key_hands(server, Role="admin")
    path = f"/v1/Accounts/{stranger.auth[0]}"
    for caller in (stranger, key):
        await caller.get("/v1/Accounts", ok=403)
        await caller.get(path, ok=403)
        await caller.post(path, ok=403, Status="suspended")
        await caller.delete(path, ok=403)
    found = (await hands.get("/v1/Accounts"))["accounts"]
    assert {account["account_sid"] for account in found} == {hands.auth[0], stranger.auth[0]}
    assert all(account["status"] == "active" for account in found)
    assert (await hands.get(path))["account_sid"] == stranger.auth[0]


async def test_an_account_is_an_event_of_the_one_that_made_it(server, hands):
    stranger = await server.stranger()
    made = await events(hands, Type="account.created")
    assert stranger.auth[0] in {event["subject_sid"] for event in made}
    assert [event["subject_sid"] for event in await events(stranger, Type="account.created")] == [stranger.auth[0]]


async def test_the_first_account_is_neither_suspended_nor_ended_and_nonsense_is_refused(server, hands):
    own = f"/v1/Accounts/{hands.auth[0]}"
    await hands.post(own, ok=409, Status="suspended")
    await hands.delete(own, ok=409)
    await hands.post(own, ok=400)
    await hands.post(own, ok=400, Status="closed")
    for method in ("GET", "DELETE"):
        await hands.call(method, "/v1/Accounts/AC" + "0" * 32, ok=404)
    await hands.post("/v1/Accounts/AC" + "0" * 32, ok=404, Status="active")


# suspended


async def test_a_suspended_account_is_refused_at_once_and_comes_back(server, hands):
    stranger, key = await server.stranger(), Key()
    device, _ = await furnish(server, stranger, key)
    grant = await new_token(stranger, MaxUses="5")
    api_key = (await stranger.post("/v1/Keys", ok=201, Role="viewer")).json
    as_key = server.as_account(api_key["sid"], api_key["secret"])
    jwt = key.jwt(device["sid"], BASE, now_s(server))
    gateway = (await stranger.post("/v1/GatewayToken", ok=201))["gateway_token"]
    ddi = f"{BASE}/{stranger.auth[0]}/controller/v1/board"

    async def attempts(*, ok, enrolled):
        for caller in (stranger, as_key):
            await caller.get("/v1/Devices", ok=ok)
        for token in (device["device_token"], jwt):
            await poll(server, token, ok=ok)
        answer = await hands.http.get(ddi, headers={"authorization": f"GatewayToken {gateway}"})
        assert answer.status_code == ok
        await enroll(server, grant["token"], Key(), ok=enrolled)

    await attempts(ok=200, enrolled=201)
    path = f"/v1/Accounts/{stranger.auth[0]}"
    assert (await hands.post(path, Status="suspended"))["status"] == "suspended"
    await attempts(ok=401, enrolled=401)
    await hands.get("/v1/Devices")
    assert [e["actor_sid"] for e in await events(hands, Type="account.suspended")] == [hands.auth[0]]
    assert (await hands.post(path, Status="active"))["status"] == "active"
    await attempts(ok=200, enrolled=201)
    assert len(await events(stranger, Type="account.suspended")) == 1


async def test_held_polls_of_a_suspended_account_end(server, hands):
    stranger = await server.stranger()
    device = await stranger.device()
    mine = await hands.device()
    held = []
    for token in (device["device_token"], mine["device_token"]):
        etag = (await poll(server, token)).headers["etag"]
        headers = {"authorization": f"Bearer {token}", "if-none-match": etag, "prefer": "wait=60"}
        held.append(asyncio.create_task(hands.http.get(f"{BASE}/device/v1/desired", headers=headers)))
    while server.world.channel.held < 2:
        await asyncio.sleep(0.01)
    await hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    assert (await asyncio.wait_for(held[0], 10)).status_code == 401
    await asyncio.sleep(0.1)
    assert not held[1].done()
    held[1].cancel()


async def test_rollouts_of_a_suspended_account_take_no_steps(server, hands):
    stranger = await server.stranger()
    device, _ = await furnish(server, stranger, Key())
    other = await stranger.device("late", Labels="site=x")
    await hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    server.clock.advance(3600)
    for _ in range(3):
        await server.world.rollouts.tick()
    await hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="active")
    assert (await stranger.get(f"/v1/Devices/{other['sid']}"))["app"]["target_sid"] is None
    assert device


# ended


async def test_an_account_that_ends_is_refused_at_once_and_goes_with_everything(server, hands):
    mine, _ = await furnish(server, hands, Key())
    stranger = await server.stranger()
    device, app = await furnish(server, stranger, Key())
    path = f"/v1/Accounts/{stranger.auth[0]}"
    had = await number_of(stranger, "d")
    await hands.delete(path)
    await stranger.get("/v1/Devices", ok=401)
    await poll(server, device["device_token"], ok=401)
    assert (await hands.get(path))["status"] == "ending"
    await hands.delete(path)
    await hands.post(path, ok=409, Status="active")
    await close(server)
    await hands.get(path, ok=404)
    await stranger.get("/v1/Devices", ok=401)
    types = [event["type"] for event in await events(hands) if event["subject_sid"] == stranger.auth[0]]
    assert types == ["account.ended", "account.ending", "account.created"]
    assert (await hands.get(f"/v1/Devices/{mine['sid']}"))["access"] == "active"
    assert (await hands.get("/v1/Secrets/k")).status == 200
    await poll(server, mine["device_token"])
    again = (await hands.post("/v1/Devices", ok=201, Sid=device["sid"])).json
    assert again["sid"] == device["sid"]
    await hands.device("e")
    await hands.post("/v1/Devices/e", TargetApp="app")
    assert await number_of(hands, "e") > had, "the board of the ended account may ask by any id now"
    assert app


async def test_nothing_of_an_ended_account_is_left_in_any_table_nor_its_bytes(tmp_path):
    db = await open_sqlite(tmp_path / "a.db")
    async with serving(db, tmp_path, account_chunk=2) as server:
        stranger = await server.stranger()
        device, _ = await furnish(server, stranger, Key())
        for _ in range(5):
            await stranger.device()
        blobs = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
        assert blobs
        await server.hands.delete(f"/v1/Accounts/{stranger.auth[0]}")
        assert await close(server) > 5
        left = await left_of(db, stranger.auth[0], device["sid"])
        assert [table for table, _ in left] == ["update_numbers"]
        server.clock.advance(2 * server.limits.layer_grace_s)
        [sweep] = [job for job in server.world.jobs if job.name == "sweep"]
        await sweep.run()
        server.clock.advance(2 * server.limits.layer_grace_s)
        await sweep.run()
        assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_an_ending_that_was_killed_in_the_middle_goes_on(tmp_path):
    async with serving(await open_sqlite(tmp_path / "a.db"), tmp_path, account_chunk=1) as server:
        stranger = await server.stranger()
        device, _ = await furnish(server, stranger, Key())
        await server.hands.delete(f"/v1/Accounts/{stranger.auth[0]}")
        [job] = [job for job in server.world.jobs if job.name == "accounts"]
        for _ in range(2):
            assert await job.run.__self__.step(stranger.auth[0])
    db = await open_sqlite(tmp_path / "a.db")
    async with serving(db, tmp_path, account_chunk=1) as server:
        assert (await server.hands.get(f"/v1/Accounts/{stranger.auth[0]}"))["status"] == "ending"
        await server.as_account(*stranger.auth).get("/v1/Devices", ok=401)
        await close(server)
        await server.hands.get(f"/v1/Accounts/{stranger.auth[0]}", ok=404)
        assert [table for table, _ in await left_of(db, stranger.auth[0], device["sid"])] == ["update_numbers"]


async def test_an_account_ends_while_its_rollout_runs_and_its_devices_poll(server, hands):
    stranger = await server.stranger()
    device, _ = await furnish(server, stranger, Key())
    path = f"/v1/Accounts/{stranger.auth[0]}"
    over = asyncio.Event()

    async def busily():
        while not over.is_set():
            answers = [
                await hands.http.get(f"{BASE}/device/v1/desired", headers={"authorization": f"Bearer {token}"})
                for token in (device["device_token"],)
            ]
            answers.append(await hands.http.post(f"{BASE}/v1/Devices", auth=stranger.auth, data={}))
            assert all(answer.status_code in {200, 201, 401, 409, 429} for answer in answers), answers
            await server.world.rollouts.tick()
            await asyncio.sleep(0.01)

    at_work = [asyncio.create_task(busily()) for _ in range(3)]
    await asyncio.sleep(0.2)
    await hands.delete(path)
    await close(server)
    over.set()
    await asyncio.gather(*at_work)
    await close(server)
    await hands.get(path, ok=404)


# devices that move


async def test_a_sid_that_is_taken_is_409_in_one_wording_whoever_has_it(server, hands):
    stranger = await server.stranger()
    own, theirs = await hands.device(), await stranger.device()
    answers = [(await hands.post("/v1/Devices", ok=409, Sid=sid)).json for sid in (own["sid"], theirs["sid"])]
    assert answers[0] == answers[1]
    csv = "sid,token_hash\n{},{}\n"
    headers = {"content-type": "text/csv"}
    told = [
        (await hands.post("/v1/DeviceImports", ok=409, content=csv.format(sid, "a" * 64), headers=headers)).json
        for sid in (own["sid"], theirs["sid"])
    ]
    assert told[0] == told[1]


async def test_a_device_that_proves_its_key_moves_with_an_event_in_both(server, hands):
    stranger, key = await server.stranger(), Key()
    device, _ = await furnish(server, stranger, key)
    had, other = await number_of(stranger, "d"), Key()
    await stranger.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=other.public)
    await hands.post("/v1/Secrets", ok=201, Key="k", Value="the new owner's")
    grant = await new_token(hands, Labels="site=new", AccountSecrets="true")
    assert (await enroll(server, grant["token"], key))["sid"] == device["sid"]
    await stranger.get(f"/v1/Devices/{device['sid']}", ok=404)
    moved = (await hands.get(f"/v1/Devices/{device['sid']}")).json
    assert (moved["unique_name"], moved["labels"], moved["app"]["target_sid"]) == (None, {"site": "new"}, None)
    for caller in (hands, stranger):
        [event] = await events(caller, Type="device.moved")
        assert (event["subject_sid"], set(event["data"])) == (device["sid"], {"fingerprint"})
    await poll(server, device["device_token"], ok=401)
    await poll(server, key.jwt(device["sid"], BASE, now_s(server)))
    assert (await hands.get(f"/v1/Devices/{device['sid']}/Secrets"))["secrets"] == []
    assert (await enroll(server, grant["token"], key, ok=200))["sid"] == device["sid"]
    await stranger.device("d")
    await stranger.post("/v1/Devices/d", TargetApp="app")
    assert await number_of(stranger, "d") > had, "the board that left may still remember its numbers"
    back = await new_token(stranger, MaxUses="2")
    assert (await enroll(server, back["token"], key))["sid"] == device["sid"]
    await enroll(server, back["token"], other, ok=403)  # the key that did not prove itself stayed behind, refused
    await hands.get(f"/v1/Devices/{device['sid']}", ok=404)
    for store in ("Configs", "Secrets"):
        assert (await stranger.get(f"/v1/Devices/{device['sid']}/{store}"))[store.lower()] == []


@pytest.mark.parametrize("put_out", ["disabled", "removed", "suspended"])
async def test_a_device_that_was_put_out_does_not_move(server, hands, put_out):
    stranger, key = await server.stranger(), Key()
    device = await stranger.device("d")
    await stranger.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public)
    match put_out:
        case "disabled":
            await stranger.post("/v1/Devices/d", Access="disabled")
        case "removed":
            await stranger.delete("/v1/Devices/d")
        case _:
            await hands.post(f"/v1/Accounts/{stranger.auth[0]}", Status="suspended")
    assert (await enroll(server, (await new_token(hands))["token"], key))["sid"] != device["sid"]
