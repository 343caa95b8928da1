"""Two servers on one PostgreSQL database and one blob directory: what one changes, the other tells and serves."""

import asyncio
import json
import os
import ssl
import time
from pathlib import Path

import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import launch

pytestmark = pytest.mark.service


def client_of(server):
    return httpx.AsyncClient(
        base_url=server.url, auth=server.auth, verify=ssl.create_default_context(cafile=server.ca_file), timeout=20
    )


@pytest.fixture
async def nodes(tmp_path, postgres_cluster):
    """Two nodes that started at once."""
    seal = tmp_path / "seal.key"
    seal.write_bytes(os.urandom(32))
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


async def test_a_removed_key_and_device_are_refused_on_the_other_node_within_two_seconds(nodes):
    """Credentials are answered from memory, so their removal must travel."""
    one, two = nodes
    async with client_of(one) as here, client_of(two) as there:
        key = (await here.post("/v1/Keys")).json()
        device = (await here.post("/v1/Devices")).json()
        bearer = {"Authorization": f"Bearer {device['device_token']}"}
        assert (await there.get("/v1/Devices", auth=(key["sid"], key["secret"]))).status_code == 200
        assert (await there.get("/device/v1/desired", headers=bearer, auth=None)).status_code == 200
        assert (await here.delete(f"/v1/Keys/{key['sid']}")).status_code == 204
        assert (await here.delete(f"/v1/Devices/{device['sid']}")).status_code == 204
        await asyncio.sleep(2)
        assert (await there.get("/v1/Devices", auth=(key["sid"], key["secret"]))).status_code == 401
        assert (await there.get("/device/v1/desired", headers=bearer, auth=None)).status_code == 401
