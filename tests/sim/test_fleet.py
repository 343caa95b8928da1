"""A swarm over real HTTPS against a real server."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests import server as servers

from fleetvisor.agent.core import View
from fleetvisor.protocol.pack import pack
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.sim.fleet import run_swarm

pytestmark = pytest.mark.service
COUNT = 12


async def until(condition: Callable[[], bool], for_s: float = 30.0) -> None:
    async with asyncio.timeout(for_s):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_swarm_updates_twice_over_real_sockets_and_tells_each_change(tmp_path: Path) -> None:
    """Devices that hold their polls learn of a new target at once: no poll interval passes."""
    with servers.running(tmp_path / "data") as server:
        seen: dict[str, list[View]] = {}
        async with httpx.AsyncClient(base_url=server.url, auth=server.auth, verify=_trust(server)) as operator:
            devices = [(await operator.post("/v1/Devices")).json() for _ in range(COUNT)]
            apps = [
                (await operator.post("/v1/Apps", files={"File": pack(bytes([n]) * 50_000, politeness_s=0)})).json()
                for n in (1, 2)
            ]
            swarm = asyncio.create_task(
                run_swarm(
                    [(device["sid"], device["device_token"]) for device in devices],
                    server.url,
                    Path(server.ca_file),
                    clock=RealClock(),
                    entropy=RealEntropy(),
                    on_change=lambda sid, view: seen.setdefault(sid, []).append(view),
                )
            )
            for app in apps:
                for device in devices:
                    answer = await operator.post(f"/v1/Devices/{device['sid']}", data={"TargetApp": app["sid"]})
                    assert answer.status_code == 200
                digest = app["hash"].removeprefix("sha256:")
                await until(
                    lambda digest=digest: (
                        len(seen) == COUNT
                        and all(views[-1].phase == "idle" and views[-1].running == digest for views in seen.values())
                    )
                )
            for device in devices:
                shown = (await operator.get(f"/v1/Devices/{device['sid']}")).json()
                assert shown["app"]["reported_sid"] == apps[1]["sid"]
                assert shown["app"]["update_status"] == "up-to-date"
            swarm.cancel()
            with pytest.raises(asyncio.CancelledError):
                await swarm
        phases = [view.phase for view in seen[devices[0]["sid"]]]
        for phase in ("downloading", "installing", "testing", "succeeded", "idle"):
            assert phase in phases


def _trust(server: servers.RunningServer):
    import ssl

    return ssl.create_default_context(cafile=server.ca_file)
