"""What was acknowledged survives SIGKILL: under concurrent uploads, targets and reports, no change is lost or halved."""

import asyncio
import itertools
import json
import os
import signal
import sqlite3
import ssl

import httpx
import pytest
from tests.corpus import simple_bundle
from tests.server import launch

pytestmark = pytest.mark.service

ROUNDS = 3
BUSY_S = 1.2


class Ledger:
    """What the server acknowledged, by kind."""

    def __init__(self):
        self.apps = {}
        self.configs = {}
        self.targets = {}
        self.reports = {}


def operator(server):
    context = ssl.create_default_context(cafile=server.ca_file)
    return httpx.AsyncClient(base_url=server.url, auth=server.auth, verify=context, timeout=10)


async def uploads(client, ledger, numbers):
    for number in numbers:
        firmware = b"%d " % number * 200
        files = {"File": ("b.zip", simple_bundle(firmware))}
        answer = await client.post("/v1/Apps", files=files, data={"UniqueName": f"app-{number}"})
        assert answer.status_code == 201, answer.text
        ledger.apps[answer.json()["sid"]] = firmware


async def configs(client, ledger, numbers):
    for number in numbers:
        answer = await client.post("/v1/Configs", data={"Key": f"key-{number}", "Value": str(number)})
        assert answer.status_code == 201, answer.text
        ledger.configs[f"key-{number}"] = str(number)


async def targets(client, ledger, device, apps):
    for app in itertools.cycle(apps):
        answer = await client.post(f"/v1/Devices/{device['sid']}", data={"TargetApp": app})
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        ledger.targets[device["sid"]] = (shown["app"]["target_sid"], shown["update"]["number"])


async def reports(client, ledger, device):
    journal = os.urandom(16).hex()
    headers = {"Authorization": f"Bearer {device['device_token']}"}
    for sequence in itertools.count(1):
        body = {"journal": journal, "sequence": sequence, "running": {"manifest": "ab" * 32}, "boot_count": sequence}
        answer = await client.post("/device/v1/report", json=body, headers=headers, auth=None)
        assert answer.status_code == 200, answer.text
        ledger.reports[device["sid"]] = sequence


async def load_and_kill(server, ledger, numbers, devices, apps):
    """Load the server from all sides, kill it in the middle; every call that it answered is in the ledger."""
    async with operator(server) as client:
        tasks = [
            asyncio.create_task(work)
            for work in (
                uploads(client, ledger, numbers),
                uploads(client, ledger, numbers),
                configs(client, ledger, numbers),
                *[targets(client, ledger, device, apps) for device in devices[:4]],
                *[reports(client, ledger, device) for device in devices[4:]],
            )
        ]
        await asyncio.sleep(BUSY_S)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        assert isinstance(result, httpx.TransportError), repr(result)


async def check(server, ledger):
    """Find every acknowledged change, whole."""
    async with operator(server) as client:
        for sid, firmware in ledger.apps.items():
            assert (await client.get(f"/v1/Apps/{sid}")).status_code == 200
            assert (await client.get(f"/v1/Apps/{sid}/Manifest")).status_code == 200
            assert firmware
        for key, value in ledger.configs.items():
            assert (await client.get(f"/v1/Configs/{key}")).json()["value"] == value
        for sid, (target, number) in ledger.targets.items():
            device = (await client.get(f"/v1/Devices/{sid}")).json()
            assert device["update"]["number"] >= number
            if device["update"]["number"] == number:
                assert device["app"]["target_sid"] == target


def check_rows(data, ledger):
    """Hold the rows against each other: counts, the one open update, every layer's bytes."""
    connection = sqlite3.connect(f"file:{data / 'fleetvisor.db'}?mode=ro", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    wrong = """SELECT digest FROM layers l
        WHERE uses <> (SELECT count(*) FROM app_layers a WHERE a.digest = l.digest)"""
    assert connection.execute(wrong).fetchall() == []
    without_layers = "SELECT app_sid FROM apps WHERE app_sid NOT IN (SELECT app_sid FROM app_layers)"
    assert connection.execute(without_layers).fetchall() == []
    two_open = "SELECT device_sid FROM updates WHERE open_app_sid IS NOT NULL GROUP BY device_sid HAVING count(*) > 1"
    assert connection.execute(two_open).fetchall() == []
    counted = (
        "SELECT device_count - (SELECT count(*) FROM devices d WHERE d.account_sid = a.account_sid) FROM accounts a"
    )
    assert {row[0] for row in connection.execute(counted)} == {0}
    for blob, size in connection.execute("SELECT blob, size_bytes FROM layers WHERE uses > 0"):
        assert (data / "blobs" / blob).stat().st_size == size
    for sid, sequence in ledger.reports.items():
        found = connection.execute("SELECT sequence FROM assignments WHERE device_sid = ?", (sid,)).fetchone()
        assert found[0] >= sequence
    connection.close()


@pytest.mark.timeout(110)
async def test_every_acknowledged_change_survives_sigkill_and_none_is_half_done(tmp_path):
    """Three lives of one data directory, each ended in the middle of everything."""
    data = tmp_path / "data"
    server = await asyncio.to_thread(launch, data)
    ledger = Ledger()
    async with operator(server) as client:
        devices = [(await client.post("/v1/Devices", data={"UniqueName": f"d-{n}"})).json() for n in range(8)]
        await uploads(client, ledger, range(1_000_000, 1_000_002))
    apps = list(ledger.apps)
    numbers = itertools.count()
    try:
        for _ in range(ROUNDS):
            before = len(ledger.apps), len(ledger.configs)
            await load_and_kill(server, ledger, numbers, devices, apps)
            assert len(ledger.apps) > before[0], "the load must have been real"
            assert len(ledger.configs) > before[1]
            check_rows(data, ledger)
            server = await asyncio.to_thread(launch, data)
            await check(server, ledger)
        assert len(ledger.targets) == 4
        assert len(ledger.reports) == 4
    finally:
        server.process.kill()
        server.process.wait(10)
    assert json.loads((data / "credentials.json").read_text())["account_sid"] == server.auth[0]
