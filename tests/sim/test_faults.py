"""Bad apps on simulated devices: who is hit, and what the server sees of it, over real HTTPS."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests import server as servers

from fleetvisor.protocol.pack import pack
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.sim.faults import Faults
from fleetvisor.sim.fleet import run_swarm

SIDS = [f"UV{number:032x}" for number in range(4000)]


def test_the_shares_are_met_and_the_seed_decides_who_is_hit():
    faults = Faults(fail=0.25, silent=0.1, revert=0.05, seed=7)
    fates = [faults.fate(sid, "a" * 64) for sid in SIDS]
    for fate, expected in (("fail", 0.25), ("silent", 0.1), ("revert", 0.05), ("well", 0.6)):
        assert abs(fates.count(fate) / len(SIDS) - expected) < 0.03
    assert fates == [faults.fate(sid, "a" * 64) for sid in SIDS]
    assert fates != [faults.fate(sid, "b" * 64) for sid in SIDS]
    assert fates != [Faults(0.25, 0.1, 0.05, seed=8).fate(sid, "a" * 64) for sid in SIDS]


def test_shares_of_nothing_and_of_everything():
    assert {Faults().fate(sid, "a" * 64) for sid in SIDS} == {"well"}
    assert {Faults(silent=1.0).fate(sid, "a" * 64) for sid in SIDS} == {"silent"}
    assert {Faults(fail=1.0, manifest="b" * 64).fate(sid, "a" * 64) for sid in SIDS} == {"well"}


class Rehearsal:
    """A server, and devices of which some apps are bad."""

    def __init__(self, api, sids):
        self.api = api
        self.sids = sids
        self.phases = {}

    async def upload(self, number):
        files = {"File": pack(bytes([number]) * 5000, politeness_s=0)}
        return (await self.api.post("/v1/Apps", files=files)).json()

    async def target(self, app):
        for sid in self.sids:
            answer = await self.api.post(f"/v1/Devices/{sid}", data={"TargetApp": app["sid"]})
            assert answer.status_code == 200

    async def device(self, sid):
        return (await self.api.get(f"/v1/Devices/{sid}")).json()

    async def until(self, condition, for_s=30.0):
        """Wait until ``condition`` holds of every device, as the API shows it."""
        async with asyncio.timeout(for_s):
            while not all([condition(await self.device(sid)) for sid in self.sids]):
                await asyncio.sleep(0.1)


@asynccontextmanager
async def rehearse(folder: Path, count: int, faults: Faults):
    with servers.running(folder / "data") as server:
        trust = ssl.create_default_context(cafile=server.ca_file)
        async with httpx.AsyncClient(base_url=server.url, auth=server.auth, verify=trust) as api:
            made = [(await api.post("/v1/Devices")).json() for _ in range(count)]
            rehearsal = Rehearsal(api, [device["sid"] for device in made])
            swarm = asyncio.create_task(
                run_swarm(
                    [(device["sid"], device["device_token"]) for device in made],
                    server.url,
                    Path(server.ca_file),
                    clock=RealClock(),
                    entropy=RealEntropy(),
                    faults=faults,
                    ramp_s=0.1,
                    on_change=lambda sid, view: rehearsal.phases.__setitem__(sid, view.phase),
                )
            )
            try:
                yield rehearsal
            finally:
                swarm.cancel()
                await asyncio.gather(swarm, return_exceptions=True)


def runs(app, status="up-to-date"):
    return lambda device: (device["app"]["reported_sid"], device["app"]["update_status"]) == (app["sid"], status)


@pytest.mark.service
async def test_an_app_fails_its_self_test_but_neither_as_the_first_nor_when_it_ran_well_before(tmp_path):
    async with rehearse(tmp_path, 4, Faults(fail=1.0)) as rehearsal:
        first, second = await rehearsal.upload(1), await rehearsal.upload(2)
        await rehearsal.target(first)
        await rehearsal.until(runs(first))
        await rehearsal.target(second)
        await rehearsal.until(runs(first, "error"))
        for sid in rehearsal.sids:
            device = await rehearsal.device(sid)
            assert (device["update"]["state"], device["update"]["error_code"]) == ("failed", 7)
        await rehearsal.target(first)
        await rehearsal.until(runs(first))


@pytest.mark.service
async def test_a_device_falls_silent_for_good_once_it_installs(tmp_path):
    async with rehearse(tmp_path, 3, Faults(silent=1.0)) as rehearsal:
        first, second = await rehearsal.upload(1), await rehearsal.upload(2)
        await rehearsal.target(first)
        await rehearsal.until(runs(first))
        await rehearsal.target(second)
        await rehearsal.until(lambda device: device["update"]["state"] == "installing")
        assert set(rehearsal.phases.values()) == {"silent"}
        await rehearsal.target(first)
        await asyncio.sleep(1)
        assert set(rehearsal.phases.values()) == {"silent"}


@pytest.mark.service
async def test_a_device_leaves_a_new_app_some_time_after_it_succeeded(tmp_path):
    """The server asks again, a bounded number of times, and each time it happens again."""
    async with rehearse(tmp_path, 2, Faults(revert=1.0, revert_after_s=0.5)) as rehearsal:
        first, second = await rehearsal.upload(1), await rehearsal.upload(2)
        await rehearsal.target(first)
        await rehearsal.until(runs(first))
        await rehearsal.target(second)
        await rehearsal.until(runs(first, "error"))
        for sid in rehearsal.sids:
            device = await rehearsal.device(sid)
            assert device["app"]["update_error_code"] == 7
            assert device["update"]["number"] > 2
        await rehearsal.target(first)
        await rehearsal.until(runs(first))
