"""``fleetvisor demo`` (``make demo``): a real server, ten simulated devices, two firmwares, one update, live.

Everything shown is read from the REST API, as any dashboard would. What is started here is stopped here: the server
by its process id, the devices with their thread, the temporary directory with both.
Deliberately takes no short cut around HTTP: bundles are uploaded, devices registered and targeted as users do it.
"""

import shlex
import shutil
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetvisor.cli.deploy import Outcome, judge
from fleetvisor.cli.devices import status
from fleetvisor.cli.options import Failure, Session, Usage
from fleetvisor.cli.output import Output, cell, clean
from fleetvisor.cli.scenario import bad_release
from fleetvisor.cli.stage import Stage, curl_line, open_stage, swarm
from fleetvisor.client.credentials import Server
from fleetvisor.client.resources import App, Client, Device


class Scenario(StrEnum):
    """Another story than the plain one."""

    BAD_RELEASE = "bad-release"


DEVICES: Final = 10
_STAGE_S: Final = 25.0
_LOOK_S: Final = 0.2
_BOOT_S: Final = 1.0  # a board takes its time; without it the states pass faster than anyone can see


def demo(
    session: Session,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop at the end: exit status 0 only if every device runs the update.")
    ] = False,
    firmware: Annotated[
        Path | None,
        typer.Option(
            "--firmware",
            metavar="DIR",
            help="A directory with other firmware: blinker-v1.elf and blinker-v2.elf.",
            show_default=False,
        ),
    ] = None,
    scenario: Annotated[
        Scenario | None,
        typer.Option("--scenario", help="Run another scenario, with a thousand devices and their rollouts."),
    ] = None,
) -> None:
    """Show it all: start a server, update ten simulated devices from one firmware to the next, and keep serving.

    With --scenario bad-release: a release to a thousand devices that a quarter of them cannot run, stopped by its
    guard, and rolled back. Uses a temporary directory, which is removed at the end.
    """
    if session.data is not None:
        raise Usage("The demo makes its own data directory.")
    out = session.out
    with ExitStack() as stack:
        stage = open_stage(stack, out, firmware)
        good = _two_updates(stage, stays=not leave) if scenario is None else bad_release(stage)
        if leave:
            out.note(f"{good} Stopping.")
            return
        out.note("\nThe server and the devices go on until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        out.note("Stopping.")


def _two_updates(stage: Stage, *, stays: bool) -> str:
    """Bring ten devices to the first version and to the second; say so. ``stays``: the server goes on."""
    from fleetvisor.agent.runner import Behaviour

    client, apps, out = stage.client, stage.apps, stage.out
    out.note(f"Registering {DEVICES} devices …")
    devices = [client.create_device(f"demo-{number:02}") for number in range(1, DEVICES + 1)]
    tokens = [(device.sid, device.device_token or "") for device in devices]
    stage.stack.enter_context(swarm(tokens, stage.server, behaviour=Behaviour(boot_s=_BOOT_S)))
    with _board(out) as board:
        for app in apps:
            for device in devices:
                client.update_device(device.sid, target=app.sid)
            _watch(client, apps, app, board)
    final = list(client.devices())
    _conclude(out, stage.server, apps, final, stays=stays)
    if not _all_run(final, apps[-1]):
        raise Failure(f"Not every device runs {apps[-1].name}.")
    return f"Every device runs {apps[-1].name}."


class _Board:
    """The table of devices, as the API gives them: moving on a terminal, a line per change elsewhere."""

    def __init__(self, out: Output, live: Live | None) -> None:
        self._out = out
        self._live = live
        self._last = ""

    def show(self, devices: Sequence[Device], apps: Sequence[App], target: App) -> None:
        """Show how the devices stand."""
        count = sum(_runs(device, target) for device in devices)
        if self._live is not None:
            self._live.update(_table(devices, apps, f"{count} of {len(devices)} run {target.name}"), refresh=True)
            return
        states = ", ".join(sorted({status(device).partition(" ")[0] for device in devices}))
        text = f"{count:2} of {len(devices)} devices run {target.name} ({states})"
        if text != self._last:
            self._last = text
            self._out.note(text)


@contextmanager
def _board(out: Output) -> Generator[_Board]:
    if not out.lively:
        yield _Board(out, None)
        return
    with Live(console=out.stderr, auto_refresh=False) as live:
        yield _Board(out, live)


def _table(devices: Sequence[Device], apps: Sequence[App], title: str) -> Table:
    names = {app.sid: app.name for app in apps}
    table = Table(title=title, title_justify="left", expand=False)
    for column in ("device", "sid", "state", "progress", "bytes", "runs"):
        table.add_column(column, no_wrap=column != "sid", overflow="fold")
    for device in sorted(devices, key=lambda one: one.name):
        update = device.update
        done, total = (update.bytes_done, update.bytes_total) if update is not None else (0, 0)
        if update is not None and update.state == "succeeded":
            done = total
        bar = ProgressBar(total=max(total, 1), completed=done, width=12)
        state = Text(clean(status(device)), style="green" if device.app.update_status == "up-to-date" else "yellow")
        size = Text(f"{done:,} / {total:,}" if total else "-", justify="right")
        runs = names.get(device.app.reported_sid or "", device.app.reported_sid)
        table.add_row(Text(clean(device.name)), Text(device.sid, style="dim"), state, bar, size, cell(runs))
    return table


def _watch(client: Client, apps: Sequence[App], target: App, board: _Board) -> None:
    deadline = time.monotonic() + _STAGE_S
    while True:
        devices = list(client.devices())
        board.show(devices, apps, target)
        if _all_run(devices, target):
            return
        if time.monotonic() > deadline:
            slow = ", ".join(f"{device.name} ({status(device)})" for device in devices if not _runs(device, target))
            raise Failure(f"Not every device runs {target.name} after {_STAGE_S:.0f} s: {slow}.")
        time.sleep(_LOOK_S)


def _runs(device: Device, app: App) -> bool:
    return device.app.reported_sid == app.sid and judge(device, app) is Outcome.DONE


def _all_run(devices: Sequence[Device], app: App) -> bool:
    return len(devices) == DEVICES and all(_runs(device, app) for device in devices)


def _conclude(out: Output, server: Server, apps: Sequence[App], devices: Sequence[Device], *, stays: bool) -> None:
    """Write what to try, where the server goes on: the one part of the demo that is data."""
    curl = curl_line(server)
    if out.json:
        out.record(
            {
                "base_url": server.base_url,
                "account_sid": server.account_sid,
                "auth_token": server.auth_token,
                "ca_file": None if server.ca_file is None else str(server.ca_file),
                "data": str(server.data),
                "curl": curl,
                "devices": {device.name: device.app.reported_sid for device in devices},
                "app": apps[-1].sid,
            }
        )
        return
    if not stays:
        out.write("\nWithout --exit the demo keeps its server and says how to call it.")
        return
    program = shutil.which("fleetvisor") or str(Path(sys.executable).with_name("fleetvisor"))
    out.write(f"""
  API         {server.base_url}/v1
  reference   {server.base_url}/docs   {server.base_url}/openapi.json
  account     {server.account_sid}
  auth token  {server.auth_token}
  CA          {server.ca_file}

Try it in another terminal:

  {curl}

  eval "$({shlex.quote(program)} env --data {shlex.quote(str(server.data))})"
  {program} devices list
  {program} deploy {apps[0].name} {devices[-1].name} --wait""")
