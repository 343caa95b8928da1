"""Two servers on one PostgreSQL database and one blob directory: what one changes, the other tells and serves."""

import asyncio
import hashlib
import json
import os
import ssl
import time
from pathlib import Path

import asyncpg
import httpx
import pytest
from tests.corpus import simple_bundle
from tests.jws import Key
from tests.server import launch

pytestmark = pytest.mark.service


def client_of(server):
    return httpx.AsyncClient(
        base_url=server.url, auth=server.auth, verify=ssl.create_default_context(cafile=server.ca_file), timeout=20
    )


@pytest.fixture
async def open_elsewhere(postgres_cluster):
    """A transaction in another database of the cluster that stays open, as that of a dump or a forgotten session."""
    connection = await asyncpg.connect(await asyncio.to_thread(postgres_cluster.url))
    await connection.execute("BEGIN; SELECT pg_current_xact_id()")
    yield
    await connection.close()


@pytest.fixture
async def nodes(tmp_path, postgres_cluster):
    """Two nodes that started at once."""
    seal = tmp_path / "seal.key"
    seal.write_bytes(os.urandom(32))
    leftovers = tmp_path / "blobs"
    leftovers.mkdir()
    for name, age_s in (("old#1", 90_000), ("young#1", 3600)):
        (leftovers / name).write_bytes(b"half")
        os.utime(leftovers / name, (time.time() - age_s, time.time() - age_s))
    shared = ["--database", postgres_cluster.url(), "--seal-key-file", str(seal), "--blobs", str(tmp_path / "blobs")]
    starts = [asyncio.to_thread(launch, tmp_path / name, *shared) for name in ("one", "two")]
    servers = await asyncio.gather(*starts)
    yield servers
    for server in servers:
        server.stop()


async def test_nodes_share_the_account_and_the_ca(nodes):
    one, two = nodes
    assert one.auth == two.auth
    first, second = (json.loads((node.data / "credentials.json").read_text()) for node in nodes)
    assert Path(first["ca_file"]).read_bytes() == Path(second["ca_file"]).read_bytes()


async def test_a_node_clears_away_old_uploads_that_never_ended_and_spares_what_another_may_be_writing(nodes, tmp_path):
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["young#1"]


async def test_a_change_on_one_node_reaches_a_poll_held_on_the_other_within_two_seconds(nodes):
    one, two = nodes
    async with client_of(one) as here, client_of(two) as there:
        device = (await here.post("/v1/Devices", data={"UniqueName": "boiler"})).json()
        bearer = {"Authorization": f"Bearer {device['device_token']}"}
        tag = (await there.get("/device/v1/desired", headers=bearer, auth=None)).headers["etag"]
        waiting = {**bearer, "If-None-Match": tag, "Prefer": "wait=15"}
        held = asyncio.create_task(there.get("/device/v1/desired", headers=waiting, auth=None))
        await asyncio.sleep(1.5)
        assert not held.done()
        started = time.monotonic()
        assert (await here.post("/v1/Devices/boiler", data={"RestartApp": "true"})).status_code == 200
        answer = await held
        assert time.monotonic() - started < 2
        assert answer.status_code == 200
        assert answer.json()["restart"] == 1


async def test_a_layer_uploaded_on_one_node_is_downloaded_from_the_other(nodes):
    one, two = nodes
    async with client_of(one) as here, client_of(two) as there:
        firmware = os.urandom(5000)
        app = (await here.post("/v1/Apps", files={"File": ("b.zip", simple_bundle(firmware))})).json()
        device = (await there.post("/v1/Devices")).json()
        await there.post(f"/v1/Devices/{device['sid']}", data={"TargetApp": app["sid"]})
        bearer = {"Authorization": f"Bearer {device['device_token']}"}
        desired = (await there.get("/device/v1/desired", headers=bearer, auth=None)).json()
        layer = desired["app"]["layers"][0]["sha256"]
        answer = await there.get(f"/device/v1/layers/{layer}", headers=bearer, auth=None)
        assert answer.content == firmware


async def test_what_is_revoked_on_one_node_is_refused_on_the_other_within_a_second(nodes, open_elsewhere):
    """Credentials are answered from memory, so their end must travel; a poll that is held there ends with it."""
    one, two = nodes
    async with client_of(one) as here, client_of(two) as there:

        async def made(path, **form):
            answer = await here.post(path, data=form)
            assert answer.status_code == 201, answer.text
            return answer.json()

        async def polls(token, **headers):
            return await there.get(
                "/device/v1/desired", headers={"Authorization": f"Bearer {token}", **headers}, auth=None
            )

        async def refused_within_a_second(change, *asks):
            for ask in asks:
                assert (await ask()).status_code == 200
            assert (await change()).status_code < 300
            end = time.monotonic() + 1
            for ask in asks:
                while (await ask()).status_code != 401:
                    assert time.monotonic() < end
                    await asyncio.sleep(0.02)

        key = await made("/v1/Keys", Role="admin")
        await refused_within_a_second(
            lambda: here.delete(f"/v1/Keys/{key['sid']}"),
            lambda: there.get("/v1/Devices", auth=(key["sid"], key["secret"])),
        )
        removed, disabled, held = [
            await made("/v1/Devices", UniqueName=name) for name in ("removed", "disabled", "held")
        ]
        await refused_within_a_second(
            lambda: here.delete("/v1/Devices/removed"), lambda: polls(removed["device_token"])
        )
        await refused_within_a_second(
            lambda: here.post("/v1/Devices/disabled", data={"Access": "disabled"}),
            lambda: polls(disabled["device_token"]),
        )
        signer = Key()
        added = await made("/v1/Devices/held/Credentials", Type="key", PublicKey=signer.public)
        signed = signer.jwt(held["sid"], two.url, int(time.time()))
        tag = (await polls(held["device_token"])).headers["etag"]
        token = hashlib.sha256(held["device_token"].encode()).hexdigest()
        poll = asyncio.create_task(polls(held["device_token"], **{"If-None-Match": tag, "Prefer": "wait=15"}))
        await refused_within_a_second(
            lambda: here.delete(f"/v1/Devices/held/Credentials/{added['fingerprint']}"), lambda: polls(signed)
        )
        assert not poll.done()
        await here.delete(f"/v1/Devices/held/Credentials/{token}")
        async with asyncio.timeout(1):
            assert (await poll).status_code == 401
        gateway = (await made("/v1/GatewayToken"))["gateway_token"]
        proof = {"Authorization": f"GatewayToken {gateway}"}
        await refused_within_a_second(
            lambda: here.delete("/v1/GatewayToken"),
            lambda: there.get("/DEFAULT/controller/v1/newcomer", headers=proof, auth=None),
        )
        second = (await made("/v1/AuthTokens/Secondary"))["secondary_auth_token"]
        await refused_within_a_second(lambda: here.post("/v1/AuthTokens/Promote"), lambda: there.get("/v1/Devices"))
        assert (await there.get("/v1/Devices", auth=(one.auth[0], second))).status_code == 200
        await asyncio.sleep(1)
        for node in nodes:
            assert json.loads((node.data / "credentials.json").read_text())["auth_token"] == second


async def test_an_account_that_is_suspended_on_one_node_is_refused_on_the_other_within_a_second(nodes):
    """What proves it and its devices is answered from memory there, and a poll is held there."""
    one, two = nodes
    async with client_of(one) as here, client_of(two) as there:
        account = (await here.post("/v1/Accounts", data={})).json()
        auth = (account["account_sid"], account["auth_token"])
        device = (await here.post("/v1/Devices", data={}, auth=auth)).json()
        headers = {"Authorization": f"Bearer {device['device_token']}"}

        def poll(**more):
            return there.get("/device/v1/desired", headers={**headers, **more}, auth=None)

        asks = (lambda: there.get("/v1/Devices", auth=auth), poll)
        for ask in asks:
            while (await ask()).status_code != 200:
                await asyncio.sleep(0.02)
        etag = (await poll()).headers["etag"]
        held = asyncio.create_task(poll(**{"If-None-Match": etag, "Prefer": "wait=30"}))
        await asyncio.sleep(0.5)
        path = f"/v1/Accounts/{account['account_sid']}"
        assert (await here.post(path, data={"Status": "suspended"})).status_code == 200
        end = time.monotonic() + 1
        for ask in asks:
            while (await ask()).status_code != 401:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
        assert (await asyncio.wait_for(held, 2)).status_code == 401
        assert (await here.post(path, data={"Status": "active"})).status_code == 200
