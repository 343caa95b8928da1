"""What every demo stands on: a server with the firmware that comes with the program, a way to stop, and a swarm.

Deliberately knows no demo: what is shown, and when it is good, is in ``demo`` and ``scenario``.
"""

import asyncio
import shlex
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleetvisor.cli.env import variables_of
from fleetvisor.cli.options import Failure
from fleetvisor.cli.output import Output
from fleetvisor.cli.simulate import swarm_url
from fleetvisor.cli.spawn import STOP_S, serving, stoppable
from fleetvisor.client.credentials import Server
from fleetvisor.client.resources import App, Client

if TYPE_CHECKING:
    from fleetvisor.agent.runner import Behaviour
    from fleetvisor.client.http import Http
    from fleetvisor.sim.faults import Faults

VERSIONS: Final = ("blinker-v1", "blinker-v2")
_SHIPPED: Final = Path(__file__).with_name("firmware")  # where the wheel has what a checkout has in examples/
_CHECKOUT: Final = Path(__file__).parents[3] / "examples/firmware"


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that is ready, with both versions of the firmware; whatever else is started goes on ``stack``."""

    out: Output
    stack: ExitStack
    server: Server
    http: "Http"
    client: Client
    apps: tuple[App, App]


def open_stage(stack: ExitStack, out: Output, firmware: Path | None) -> Stage:
    """Start a server in a temporary directory and upload the firmware; ``stack`` stops and removes it all."""
    from fleetvisor.client.http import Http

    stack.enter_context(stoppable())
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetvisor-demo-")))
    first, second = [_pack_elf((firmware or shipped_firmware()) / f"{version}.elf", directory) for version in VERSIONS]
    out.note("Starting a server on HTTPS, with SQLite in a temporary directory …")
    server = stack.enter_context(serving(directory / "data", out))
    http = stack.enter_context(Http(server))
    client = Client(http)
    out.note(f"It is ready at {server.call_url}. Uploading 2 bundles …")
    apps = (client.create_app(first, first.stem), client.create_app(second, second.stem))
    return Stage(out, stack, server, http, client, apps)


def shipped_firmware() -> Path:
    """Return the folder of the two firmwares that come with the program."""
    return _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT


def _pack_elf(elf: Path, directory: Path) -> Path:
    from fleetvisor.protocol.firmware import load_firmware
    from fleetvisor.protocol.pack import pack

    if not elf.exists():
        raise Failure(f"{elf} is missing.", "Give --firmware DIR, with both files in it.")
    bundle = directory / f"{elf.stem}.zip"
    bundle.write_bytes(pack(load_firmware(elf)))
    return bundle


@contextmanager
def swarm(
    devices: Sequence[tuple[str, str]],
    server: Server,
    *,
    behaviour: "Behaviour | None" = None,
    faults: "Faults | None" = None,
    ramp_s: float = 1.0,
) -> Generator[None]:
    """Run the devices in a thread of their own, so that looking at them does not slow them."""
    from fleetvisor.reality import RealClock, RealEntropy
    from fleetvisor.sim.fleet import run_swarm

    async def live() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        stopping.append(lambda: loop.call_soon_threadsafe(task.cancel))
        started.set()
        await run_swarm(
            devices,
            swarm_url(server),
            server.ca_file,
            clock=RealClock(),
            entropy=RealEntropy(),
            behaviour=behaviour,
            faults=faults,
            ramp_s=ramp_s,
        )

    def work() -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(live())

    stopping: list[Callable[[], object]] = []
    started = threading.Event()
    thread = threading.Thread(target=work, name="swarm", daemon=True)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        for stop in stopping:
            with suppress(RuntimeError):  # the loop is closed: the swarm ended by itself
                stop()
        thread.join(STOP_S)


def curl_line(server: Server, path: str = "/v1/Devices") -> str:
    """Return the command line with which a person asks the API for ``path``."""
    ca_file = variables_of(server).get("FLEETVISOR_CA_FILE")
    trust = f"--cacert {shlex.quote(ca_file)} " if ca_file else ""
    return f"curl {trust}-u {server.account_sid}:{server.auth_token} {server.base_url}{path}"
