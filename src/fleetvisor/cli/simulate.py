"""``fleetvisor simulate``: a swarm of devices in one process, to try a server, a rollout or a dashboard with.

The devices are registered through the API and run the real agent over real HTTPS; only their flash is in memory.
Apps can be bad on some of them, to rehearse how a rollout stops. Deliberately no other faults: ``tests/sim`` is where
networks drop and power fails.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from fleetvisor.cli.devices import Labels
from fleetvisor.cli.options import Session, Usage
from fleetvisor.cli.spawn import stoppable
from fleetvisor.client.answers import ApiProblem
from fleetvisor.client.credentials import Server

if TYPE_CHECKING:
    from fleetvisor.sim.faults import Faults

_TELL_S: Final = 1.0
_APP_PANEL: Final = "Bad apps"


def share(given: object) -> float:
    """Read a share: 0.25 or 25%. Raises ``typer.BadParameter``."""
    text = str(given).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise typer.BadParameter(f"{text!a} is no share: give one between 0 and 1, such as 0.25, or 25%.")
    return number


def _rate(name: str, about: str) -> typer.models.OptionInfo:
    text = f"{about} P is a share: 0.25 or 25%."
    return typer.Option(name, parser=share, metavar="P", help=text, show_default=False, rich_help_panel=_APP_PANEL)


_FailRate = Annotated[
    float, _rate("--fail-rate", "Share of devices on which a new app fails its self-test: they revert with error 7.")
]
_SilentRate = Annotated[
    float, _rate("--silent-rate", "Share of devices that report that they install a new app, and never report again.")
]
_RevertRate = Annotated[
    float, _rate("--revert-rate", "Share of devices that succeed with a new app, and later revert to the old app.")
]
_RevertAfter = Annotated[
    float,
    typer.Option(
        "--revert-after", min=0, metavar="S", help="How many seconds later they revert.", rich_help_panel=_APP_PANEL
    ),
]
_FailApp = Annotated[
    str | None,
    typer.Option(
        "--fail-app",
        metavar="APP",
        help="Only this app, by SID or unique name, can be bad; without it every one.",
        show_default=False,
        rich_help_panel=_APP_PANEL,
    ),
]
_Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        help="Seed that selects the devices; the same seed, devices and app give the same selection.",
        rich_help_panel=_APP_PANEL,
    ),
]


class _Line(msgspec.Struct):
    """A line of ``devices create --json``, as much as a simulated device needs."""

    sid: str
    device_token: str


def simulate(
    session: Session,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, metavar="N", help="Register N devices and simulate them.", show_default=False),
    ] = None,
    devices: Annotated[
        Path | None,
        typer.Option(
            "--devices",
            metavar="FILE",
            exists=True,
            allow_dash=True,
            help="Simulate the devices in this file, written by: devices create --json.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name them NAME-1 to NAME-N.", show_default=False),
    ] = None,
    label: Labels = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0, metavar="S", help="Stop after S seconds.", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the registered devices at the end.")] = False,
    fail_rate: _FailRate = 0.0,
    silent_rate: _SilentRate = 0.0,
    revert_rate: _RevertRate = 0.0,
    revert_after: _RevertAfter = 5.0,
    fail_app: _FailApp = None,
    seed: _Seed = 0,
) -> None:
    """Run simulated devices until stopped. Their flash is in memory: each start is a new board's first.

    Apps can be bad on some of them, to rehearse a rollout: only in updates from one app to another, and never an app
    that the device ran well before, so that going back helps. With --json each change of a device is one line.
    """
    if (count is None) == (devices is None):
        raise Usage("Give either --count or --devices.", "See: fleetvisor simulate --help")
    if devices is not None and (name is not None or label or remove):
        raise Usage("--name, --label and --remove are for devices registered here, with --count.")
    rates = (fail_rate, silent_rate, revert_rate)
    faults = _faults(session, rates, revert_after, fail_app, seed)
    registered: list[str] = []
    with stoppable():
        try:
            made = partial(_register, session, count or 0, name, label or [], registered)
            swarm = made() if devices is None else _read(devices)
            asyncio.run(_live(session, swarm, duration, faults))
        finally:
            if remove:
                _remove(session, registered)


def _faults(
    session: Session, rates: tuple[float, float, float], revert_after_s: float, app: str | None, seed: int
) -> "Faults | None":
    """Return the faults that were asked for; ``None``: none were."""
    from fleetvisor.sim.faults import Faults

    if sum(rates) > 1:
        raise Usage("--fail-rate, --silent-rate and --revert-rate are shares of the same devices: together at most 1.")
    if not any(rates):
        if app is not None:
            raise Usage("--fail-app needs --fail-rate, --silent-rate or --revert-rate.")
        return None
    manifest = None if app is None else session.client.app(app).hash.removeprefix("sha256:")
    return Faults(*rates, seed, manifest, revert_after_s)


def swarm_url(server: Server) -> str:
    """Return the address for the devices: the local one, unless only its public name is in the certificate."""
    return server.base_url if server.ca_file is None else server.call_url


def _read(file: Path) -> list[tuple[str, str]]:
    import sys

    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    try:
        lines = [msgspec.json.decode(line, type=_Line) for line in text.splitlines() if line.strip()]
    except msgspec.MsgspecError as error:
        raise Usage(f"{file} does not hold what devices create --json writes: {error}.") from error
    return [(line.sid, line.device_token) for line in lines]


def _register(
    session: Session, count: int, name: str | None, labels: list[str], registered: list[str]
) -> list[tuple[str, str]]:
    """Register the devices; each is added to ``registered`` once it exists, for the one who cleans up."""
    swarm: list[tuple[str, str]] = []
    with session.out.counter("Registering devices", count) as progress:
        for number in range(1, count + 1):
            made = session.client.create_device(None if name is None else f"{name}-{number}", labels=labels)
            registered.append(made.sid)
            swarm.append((made.sid, made.device_token or ""))
            progress(number)
    return swarm


def _remove(session: Session, registered: Sequence[str]) -> None:
    with session.out.counter("Removing devices", len(registered)) as progress:
        for number, sid in enumerate(registered, 1):
            try:
                session.client.remove_device(sid)
            except ApiProblem as problem:
                if problem.status != 404:
                    raise
            progress(number)


async def _live(
    session: Session, swarm: Sequence[tuple[str, str]], duration_s: float | None, faults: "Faults | None"
) -> None:
    from fleetvisor.agent.core import View
    from fleetvisor.reality import RealClock, RealEntropy
    from fleetvisor.sim.fleet import run_swarm

    clock = RealClock()
    server = session.server
    views: dict[str, View] = {}

    def hear(sid: str, view: View) -> None:
        views[sid] = view
        if session.out.json:
            session.out.line({"sid": sid, "phase": view.phase, "running": view.running, "bytes_done": view.bytes_done})

    async def tell() -> None:
        last = ""
        while True:
            text = summary([(view.phase, view.running) for view in views.values()], len(swarm))
            if text != last:
                last = text
                session.out.note(text)
            await clock.sleep(_TELL_S)

    session.out.note(f"Simulating {len(swarm)} device(s) at {swarm_url(server)}; Ctrl-C stops them.")
    try:
        async with clock.timeout(duration_s), asyncio.TaskGroup() as tasks:
            tasks.create_task(tell())
            tasks.create_task(
                run_swarm(
                    swarm,
                    swarm_url(server),
                    server.ca_file,
                    clock=clock,
                    entropy=RealEntropy(),
                    faults=faults,
                    on_change=hear,
                )
            )
    except TimeoutError:
        pass  # the time asked for is over


def summary(devices: Sequence[tuple[str, str | None]], total: int) -> str:
    """Say in one line what a swarm is at: how many are in each phase, and how many run what."""
    phases = Counter(phase for phase, _ in devices)
    running = Counter(image[:12] if image else "nothing" for _, image in devices)
    parts = [f"{len(devices)} of {total} on"]
    parts += [f"{count} {phase}" for phase, count in phases.most_common()]
    runs = ", ".join(f"{count} run {image}" for image, count in running.most_common(4))
    return " · ".join(parts) + (f" | {runs}" if runs else "")
