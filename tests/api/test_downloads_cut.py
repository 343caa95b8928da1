"""A download under way ends when its device is put out, and goes on when only its signed token has ended."""

import asyncio

import pytest
from tests.api.world import BASE
from tests.jws import Key

from fleetvisor.channel.download import Abandoned
from fleetvisor.db.database import DatabaseFault

SIZE = 1 << 20


class Reader:
    """Takes the pieces of one download, but no more than ``go`` lets it."""

    def __init__(self, server, path, authorization):
        raw = path.encode()
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": raw}
        scope |= {"query_string": b"", "headers": [(b"authorization", authorization.encode())], "client": ("::1", 1)}
        self.status, self.bytes = None, 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(server.world.app(scope, self._receive, self._send))

    async def _receive(self):
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.bytes += len(message["body"])
        self.begun.set()
        await self.go.wait()

    async def begin(self):
        await asyncio.wait_for(self.begun.wait(), 10)
        assert (self.status, self._task.done()) == (200, False)
        return self

    async def finish(self):
        self.go.set()
        await asyncio.wait_for(self._task, 10)


async def begin(server, proof="token"):
    """Give another account a device that downloads, by the native API or by DDI."""
    stranger, key = await server.stranger(), Key()
    files = {"File": ("f", b"x" * SIZE)}
    app = (await stranger.call("POST", "/v1/Apps", ok=201, data={"Kind": "raw"}, files=files)).json
    device = await stranger.device("d")
    await stranger.post("/v1/Devices/d/Credentials", ok=201, Type="key", PublicKey=key.public)
    await stranger.post("/v1/Devices/d", TargetApp=app["sid"])
    token = device["device_token"]
    if proof == "signed":
        token = key.jwt(device["sid"], BASE, server.clock.now() // 1000)
    headers = {"authorization": f"Bearer {device['device_token']}"}
    desired = (await server.hands.http.get(BASE + "/device/v1/desired", headers=headers)).json()
    path, scheme = f"/device/v1/layers/{desired['app']['layers'][0]['sha256']}", "Bearer"
    if proof == "ddi":
        scheme, base = "TargetToken", f"/{stranger.auth[0]}/controller/v1/d"
        headers = {"authorization": f"TargetToken {token}"}
        found = (
            await server.hands.http.get(f"{BASE}{base}/softwaremodules/{app['sid']}/artifacts", headers=headers)
        ).json()
        path = f"{base}/softwaremodules/{app['sid']}/artifacts/{found[0]['filename']}"
    return stranger, device, await Reader(server, path, f"{scheme} {token}").begin()


@pytest.mark.parametrize("proof", ["token", "signed", "ddi"])
@pytest.mark.parametrize("end", ["disabled", "removed", "suspended", "ended"])
async def test_a_download_ends_when_its_device_is_put_out(server, proof, end):
    stranger, _, reader = await begin(server, proof)
    path = f"/v1/Accounts/{stranger.auth[0]}"
    match end:
        case "disabled":
            await stranger.post("/v1/Devices/d", Access="disabled")
        case "removed":
            await stranger.delete("/v1/Devices/d")
        case "suspended":
            await server.hands.post(path, Status="suspended")
        case _:
            await server.hands.delete(path)
    server.clock.advance(7200)  # whatever was signed has ended too
    with pytest.raises(Abandoned):
        await reader.finish()
    assert reader.bytes < SIZE // 4


@pytest.mark.parametrize("proof", ["token", "signed", "ddi"])
async def test_a_download_goes_on_when_time_goes_by_and_other_things_change(server, proof):
    stranger, _, reader = await begin(server, proof)
    server.clock.advance(7200)
    await stranger.post("/v1/Devices/d", UniqueName="renamed", Labels="site=x")
    await server.hands.post(f"/v1/Accounts/{(await server.stranger()).auth[0]}", Status="suspended")
    await reader.finish()
    assert reader.bytes == SIZE


async def test_a_download_goes_on_while_the_database_is_away(server, monkeypatch):
    stranger, _, reader = await begin(server)
    await stranger.post("/v1/Devices/d", Labels="site=x")  # its bell rang, so that the database is asked

    async def away(*_):
        raise DatabaseFault("away")

    with monkeypatch.context() as patched:
        patched.setattr(server.world.db, "one", away)  # no engine is away on demand
        await reader.finish()
    assert reader.bytes == SIZE
