"""A swarm of simulated devices in one process, over real HTTPS: ``fleetvisor simulate`` and the demo.

The agents are the same as on a real device; their flash is in memory and grows with what is written, and they share
one trust store. Deliberately no server and no operator: whoever calls has registered the devices.
"""

import asyncio
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fleetvisor.agent.core import View
from fleetvisor.agent.flash import FlashFault
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.runner import Behaviour, Device, memory_flash
from fleetvisor.agent.talk import Options
from fleetvisor.agent.transport import HttpTransport, open_pool
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.sim.faults import Faults, FaultyDevice, FellBack, FellSilent, go_back

OnChange = Callable[[str, View], None]
_OTHER_FILES = 256


def _ignore(_: str, __: View) -> None:
    return None


async def run_swarm(
    devices: Sequence[tuple[str, str]],
    url: str,
    ca_file: Path | None,
    *,
    clock: Clock,
    entropy: Entropy,
    geometry: Geometry | None = None,
    options: Options | None = None,
    behaviour: Behaviour | None = None,
    faults: Faults | None = None,
    ramp_s: float | None = None,
    on_change: OnChange = _ignore,
) -> None:
    """Run one agent for each ``(sid, token)`` against the server at ``url``, until cancelled.

    The agents start spread over ``ramp_s`` seconds (by default 100 a second). ``on_change`` is called with a SID and
    what its agent is at, at every change. A device whose flash fails is reported as phase ``broken``, and stays dead;
    so does, as ``silent``, one that ``faults`` silence.
    """
    shape, habits, bad = geometry or Geometry(), behaviour or Behaviour(), faults or Faults()
    spread_s = len(devices) / 100 if ramp_s is None else ramp_s
    _allow_files(len(devices) + _OTHER_FILES)
    async with open_pool(ca_file) as pool, asyncio.TaskGroup() as tasks:

        async def live(sid: str, token: str, delay_s: float) -> None:
            await clock.sleep(delay_s)
            flash = memory_flash(shape)
            faulty = FaultyDevice(HttpTransport(pool, url, token), bad, sid, clock)
            device = Device(
                flash=flash,
                geometry=shape,
                transport=faulty,
                clock=clock,
                entropy=entropy,
                options=options,
                behaviour=habits if faults is None else replace(habits, self_test=faulty.self_test),
                on_change=lambda view: on_change(sid, view),
            )
            while True:
                try:
                    await device.run()
                except FellBack:
                    go_back(flash, shape, entropy)
                    await clock.sleep(habits.boot_s)
                except FellSilent:
                    return on_change(sid, faulty.silent_view)
                except FlashFault:
                    return on_change(sid, View("broken", None, 0, 0, logging=False))

        for number, (sid, token) in enumerate(devices):
            tasks.create_task(live(sid, token, spread_s * number / len(devices)))


def _allow_files(count: int) -> None:
    """Let this process open ``count`` files, or as many as it may: each device has a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
