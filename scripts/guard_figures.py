"""Measures, in the simulated world, how early a guard stops a release that fails on 8 % of the devices.

``python -m scripts.guard_figures`` runs 200 seeded worlds of 1,000 devices against the whole server, on a clock of its
own, and writes how many devices were touched into ``docs/explanation/guards.md``. The same seeds give the same figures.
"""

import argparse
import statistics
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.progress import track

from fleetvisor.protocol.lifecycle import State
from fleetvisor.sim.loop import SeededEntropy, run_virtual
from fleetvisor.sim.network import Link
from fleetvisor.sim.puppet import NativePuppet
from fleetvisor.sim.world import World, open_world
from scripts.generate_docs import put

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "guards.md"
COMMAND = "python -m scripts.guard_figures"
DEVICES = 1000
FORM = {"App": "v2", "Selector": "*", "Waves": "1%,4%,20%,100%", "Limit": "2%", "OnUnproven": "stop", "Soak": "60"}
TICK_S = 31.0
TICKS_MAX = 500
RUNNING = "00" * 32


def token(seed: int, number: int) -> str:
    """Give a device's token."""
    return f"fvd_{seed:08d}_{number:08d}"


async def register(world: World, seed: int) -> None:
    """Import the devices."""
    rows = ["name,token_hash"]
    rows += [f"d{number},{sha256(token(seed, number).encode()).hexdigest()}" for number in range(DEVICES)]
    await world.operator.call("POST", "/v1/DeviceImports", body="\n".join(rows).encode(), content_type="text/csv")


async def release(seed: int, rate: float) -> tuple[str, int]:
    """Release to a fleet on ``rate`` of which the app fails; give how that ended, and how many were touched."""
    chance = SeededEntropy(seed, "fates").random
    async with open_world(seed) as world:
        await register(world, seed)
        firmware = await world.operator.upload("v2")
        puppets = {
            row["sid"]: NativePuppet(row["sid"], Link(world.network, token(seed, number), entropy), entropy, RUNNING)
            for row in await devices(world)
            for number in [int(row["unique_name"][1:])]
            for entropy in [SeededEntropy(seed, "device", number)]
        }
        order = {row["sid"]: int(row["unique_name"][1:]) for row in await devices(world)}
        rollout: dict[str, Any] = await world.operator.call("POST", "/v1/Rollouts", FORM)
        path = f"/v1/Rollouts/{rollout['sid']}"
        await world.operator.call("POST", path, {"Action": "start"})
        for _ in range(TICKS_MAX):
            await world.clock.sleep(TICK_S)
            open_ = await world.operator.call("GET", f"{path}/Devices?State=updating&PageSize=1000")
            for row in sorted(open_["rollout_devices"], key=lambda row: order[row["device_sid"]]):
                puppet = puppets[row["device_sid"]]
                fails = chance.random() < rate
                puppet.running = RUNNING if fails else firmware.manifest
                await puppet.report(row["update_number"], State.FAILED if fails else State.SUCCEEDED)
            shown = await world.operator.call("GET", path)
            if shown["date_ended"]:
                return shown["state"], sum(shown["counts"].values())
    raise RuntimeError(f"seed {seed}: the rollout did not end")


async def devices(world: World) -> list[dict[str, Any]]:
    """Give the fleet as the API shows it."""
    answer: dict[str, Any] = await world.operator.call("GET", f"/v1/Devices?PageSize={DEVICES}")
    return answer["devices"]


def main() -> None:
    """Run the worlds, print the figures, write them into the page."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.08, help="the share of devices on which the release fails")
    parser.add_argument("--write", action="store_true", help="write the figures into the page")
    options = parser.parse_args()
    ends = [run_virtual(release(seed, options.rate)) for seed in track(range(options.seeds))]
    touched = sorted(count for _, count in ends)
    stopped = sum(state == "stopped" for state, _ in ends)
    p90 = statistics.quantiles(touched, n=10, method="inclusive")[8]
    text = (
        f"In {options.seeds} worlds {stopped} releases were stopped; devices touched: median"
        f" {statistics.median(touched):.0f}, 90th percentile {p90:.0f}, at most {touched[-1]}.\n"
    )
    print(text, end="")
    if options.write:
        PAGE.write_text(put(PAGE.read_text(), "figures", text, COMMAND))


if __name__ == "__main__":
    main()
