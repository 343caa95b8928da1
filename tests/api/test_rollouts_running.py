"""Rollouts on real servers: killed in the middle of a wave, and moved by two nodes at once. The counts stay exact."""

import asyncio
import os
import random
import ssl
import time

import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import launch

pytestmark = pytest.mark.service

DEVICES = 60
LIVES = 3


def client_of(server):
    context = ssl.create_default_context(cafile=server.ca_file)
    return httpx.AsyncClient(base_url=server.url, auth=server.auth, verify=context, timeout=10)


class Board:
    """A device that follows, at whichever server is there, and survives that there is none."""

    def __init__(self, made, v1):
        self.headers = {"Authorization": f"Bearer {made['device_token']}"}
        self.journal = os.urandom(16).hex()
        self.sequence = 0
        self.running = {"app": v1["sid"], "manifest": v1["hash"][7:]}
        self.rng = random.Random(made["sid"])

    async def report(self, client, update=None):
        body = {"journal": self.journal, "sequence": self.sequence + 1, "running": self.running, "boot_count": 1}
        answer = await client.post("/device/v1/report", json=body | {"update": update}, headers=self.headers, auth=None)
        assert answer.status_code == 200, answer.text
        self.sequence += 1

    async def follow(self, client):
        desired = (await client.get("/device/v1/desired", headers=self.headers, auth=None)).json()["app"]
        if desired is None or desired["update"] is None:
            return
        if self.rng.random() < 0.5:
            await self.report(client, {"number": desired["update"], "state": "downloading", "error_code": 0})
        self.running = {"app": desired["sid"], "manifest": desired["manifest"]}
        await self.report(client, {"number": desired["update"], "state": "succeeded", "error_code": 0})


async def made_fleet(client):
    apps = []
    for name in ("v1", "v2"):
        files = {"File": ("b.zip", simple_bundle(name.encode() * 50))}
        answer = await client.post("/v1/Apps", files=files, data={"UniqueName": name})
        assert answer.status_code == 201, answer.text
        apps.append(answer.json())
    boards = []
    for number in range(DEVICES):
        board = Board((await client.post("/v1/Devices", data={"UniqueName": f"d{number}"})).json(), apps[0])
        await board.report(client)
        boards.append(board)
    form = {"App": "v2", "Selector": "*", "Waves": "5,50%,100%", "Soak": 0, "MinimumSample": 1}
    rollout = (await client.post("/v1/Rollouts", data=form)).json()
    assert (await client.post(f"/v1/Rollouts/{rollout['sid']}", data={"Action": "start"})).status_code == 200
    return boards, rollout["sid"]


async def drive(boards, clients, stop):
    """Let every board follow, again and again, at any of the servers, until told to stop."""

    async def one(board):
        while not stop.is_set():
            try:
                await board.follow(random.choice(clients))
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)

    await asyncio.gather(*[one(board) for board in boards])


async def counts_of(client, sid):
    """Give the rollout, having demanded that its counts are those of its devices."""
    for _ in range(20):  # the two are read one after the other: a moment when nothing moved between them is awaited
        before = (await client.get(f"/v1/Rollouts/{sid}")).json()
        rows = (await client.get(f"/v1/Rollouts/{sid}/Devices?PageSize=1000")).json()["rollout_devices"]
        after = (await client.get(f"/v1/Rollouts/{sid}")).json()
        if before["counts"] == after["counts"]:
            found = {state: sum(row["state"] == state for row in rows) for state in after["counts"]}
            assert found == after["counts"]
            return after
    raise AssertionError("the counts never stood still")


async def completed(client, sid, seconds=40):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rollout = (await client.get(f"/v1/Rollouts/{sid}")).json()
        if rollout["date_ended"]:
            return await counts_of(client, sid)
        await asyncio.sleep(0.2)
    raise AssertionError(f"not completed in {seconds} s: {rollout}")


async def check_updates(client):
    """Every device got just one update, and it succeeded."""
    devices = (await client.get("/v1/Devices?PageSize=1000")).json()["devices"]
    assert {device["update"]["state"] for device in devices} == {"succeeded"}
    for device in devices:
        assert len((await client.get(f"/v1/Devices/{device['sid']}/Updates")).json()["updates"]) == 1


@pytest.mark.timeout(110)
async def test_a_server_that_is_killed_in_the_middle_of_a_wave_goes_on_where_it_was(tmp_path):
    data = tmp_path / "data"
    server = await asyncio.to_thread(launch, data)
    try:
        async with client_of(server) as client:
            boards, sid = await made_fleet(client)
        for life in range(LIVES):
            async with client_of(server) as client:
                stop = asyncio.Event()
                driving = asyncio.create_task(drive(boards, [client], stop))
                await asyncio.sleep(0.5 + life / 3)
                server.process.kill()
                await asyncio.to_thread(server.process.wait, 10)
                stop.set()
                await driving
            server = await asyncio.to_thread(launch, data)
            async with client_of(server) as client:
                rollout = await counts_of(client, sid)
                assert sum(rollout["counts"].values()) <= DEVICES
        async with client_of(server) as client:
            stop = asyncio.Event()
            driving = asyncio.create_task(drive(boards, [client], stop))
            rollout = await completed(client, sid)
            stop.set()
            await driving
            assert (rollout["state"], rollout["counts"]["succeeded"]) == ("completed", DEVICES)
            await check_updates(client)
    finally:
        server.process.kill()
        server.process.wait(10)


@pytest.mark.timeout(110)
async def test_two_nodes_move_one_rollout_and_count_every_device_once(tmp_path, postgres_cluster):
    seal = tmp_path / "seal.key"
    seal.write_bytes(os.urandom(32))
    shared = ["--database", postgres_cluster.url(), "--seal-key-file", str(seal), "--blobs", str(tmp_path / "blobs")]
    starts = [asyncio.to_thread(launch, tmp_path / name, *shared) for name in ("one", "two")]
    nodes = await asyncio.gather(*starts)
    try:
        async with client_of(nodes[0]) as here, client_of(nodes[1]) as there:
            boards, sid = await made_fleet(here)
            stop = asyncio.Event()
            driving = asyncio.create_task(drive(boards, [here, there], stop))
            rollout = await completed(there, sid)
            stop.set()
            await driving
            assert (rollout["state"], rollout["counts"]["succeeded"]) == ("completed", DEVICES)
            decisions = (await here.get(f"/v1/Rollouts/{sid}/Decisions")).json()["decisions"]
            assert sorted(row["number"] for row in decisions) == list(range(1, len(decisions) + 1))
            released = [row["wave"] for row in decisions if row["code"] == "unproven_within"]
            assert sorted(released) == [1, 2, 3]
            await check_updates(here)
    finally:
        for node in nodes:
            node.stop()
