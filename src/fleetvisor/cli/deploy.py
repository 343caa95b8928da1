"""``fleetvisor deploy``: give devices an app, and watch them take it.

What is shown comes from the Device's ``app`` and ``update`` in the API alone, so that any other program can show
the same. Deliberately no rollouts: every device named is targeted at once.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fleetvisor.cli.bulk import Bulk
from fleetvisor.cli.devices import Selector, count_for_change, is_blank, reason, show_table, status
from fleetvisor.cli.options import AppRef, Failure, Session, Usage
from fleetvisor.cli.output import Output, clean
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.resources import App, Device
from fleetvisor.protocol.lifecycle import OPEN

_INTERVAL_S: Final = 0.5
_ABSENCE_S: Final = 60.0


class Outcome(StrEnum):
    """How one device's deployment stands."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Watch:
    """The devices being watched, by the SID; ``outcomes`` holds those that are through, ``gone`` those removed."""

    app: App
    devices: dict[str, Device]
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    gone: set[str] = field(default_factory=set[str])

    @property
    def open(self) -> list[str]:
        """Return the SIDs of those that are not through."""
        return [sid for sid in self.devices if sid not in self.outcomes]

    def take(self, device: Device) -> Outcome:
        """Take what the server says of a device now."""
        self.devices[device.sid] = device
        found = judge(device, self.app)
        if found is not Outcome.WAITING:
            self.outcomes[device.sid] = found
        return found

    def lose(self, sid: str) -> None:
        """Take that a device was removed."""
        self.outcomes[sid] = Outcome.FAILED
        self.gone.add(sid)


def judge(device: Device, app: App) -> Outcome:
    """Decide how the deployment of ``app`` to ``device`` stands."""
    if device.app.target_sid != app.sid:
        return Outcome.FAILED  # somebody gave it another target meanwhile, or canceled this one
    match device.app.update_status:
        case "up-to-date":
            return Outcome.WAITING if _on_trial(device, app) else Outcome.DONE
        case "error":
            return Outcome.FAILED
        case _ if device.access == "disabled":
            return Outcome.FAILED  # it cannot report until an operator lets it in again
        case _:
            return Outcome.WAITING


def _on_trial(device: Device, app: App) -> bool:
    """Return whether a device that runs ``app`` has yet to confirm it: it may still go back to what it ran."""
    update = device.update
    return update is not None and update.app_sid == app.sid and update.state in OPEN


def told(device: Device, app: App) -> str:
    """Say how the deployment of ``app`` to ``device`` stands, for people."""
    if device.app.target_sid != app.sid:
        return "no longer targets this app"
    if judge(device, app) is Outcome.DONE:
        return "runs it"
    if device.update is not None and device.app.update_status == "up-to-date":
        return device.update.state
    return "is disabled" if device.access == "disabled" else status(device)


def deploy(
    session: Session,
    app: AppRef,
    devices: Annotated[
        list[str] | None, typer.Argument(metavar="DEVICE…", help="SIDs or unique names.", show_default=False)
    ] = None,
    selector: Selector = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every device runs the app or has failed.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="S", help="With --wait: give up after S seconds.", show_default=False),
    ] = None,
) -> None:
    """Set the app that devices should run: those named, and those that -l selects.

    With -l each device is targeted as the list is walked. One that has this target already is passed over, so run it
    again after an interruption; one that may not have the app is told of at the end, and the exit status is 1.
    With --wait the exit status is 0 when every device runs it, and 1 when one failed, was given another target, or
    did not get there in time.
    """
    if is_blank(selector) or not (devices or selector):
        raise Usage("Say which devices: by name, or by -l SELECTOR.", "See: fleetvisor deploy --help")
    wanted = session.client.app(app)
    watch = Watch(wanted, {})
    total = count_for_change(session, selector) if selector else 0
    _target(session, watch, devices or [])
    bulk = Bulk(session.out, f"Targeting {wanted.name}", f"given {wanted.name}")
    if selector:
        _target_selected(session, watch, bulk, selector, total)
    if not wait:
        session.out.note(f"{len(watch.devices)} device(s) were given {wanted.name}.")
        _show(session, watch)
    else:
        timed_out = _follow(session, watch, timeout)
        _show(session, watch)
        _conclude(watch, bulk, timed_out=timed_out)
    bulk.judge()


def _target_selected(session: Session, watch: Watch, bulk: Bulk, selector: str, total: int) -> None:
    """Target the devices that a selector selects; those that have this target already are only watched."""

    def target(device: Device) -> bool:
        if device.sid in watch.devices:
            return False
        due = device.app.target_sid != watch.app.sid or device.app.update_status == "error"
        watch.devices[device.sid] = session.client.update_device(device.sid, target=watch.app.sid) if due else device
        return due

    bulk.run(session.client.devices(selector), total, target)
    if not bulk.met:
        session.out.warn(f"No device is selected by {selector}")


def _target(session: Session, watch: Watch, refs: list[str]) -> None:
    """Target one device after the other; a failure tells how many were."""
    try:
        with session.out.counter(f"Targeting {watch.app.name}", len(refs)) as progress:
            for number, ref in enumerate(refs, 1):
                device = session.client.update_device(ref, target=watch.app.sid)
                watch.devices[device.sid] = device
                progress(number)
    except (ApiProblem, Unreachable) as problem:
        if not watch.devices:
            raise
        detail = f"{len(watch.devices)} of {len(refs)} devices were given {watch.app.name}, then: {problem.detail}"
        raise Failure(detail, problem.hint) from problem


def _show(session: Session, watch: Watch) -> None:
    if session.out.json:
        for device in watch.devices.values():
            session.out.line(device.document)
    else:
        show_table(session, list(watch.devices.values()))


def _conclude(watch: Watch, bulk: Bulk, *, timed_out: bool) -> None:
    bad = [watch.devices[sid] for sid, outcome in watch.outcomes.items() if outcome is Outcome.FAILED]
    late = len(watch.open)
    if bad:
        first = bad[0]
        why = "was removed" if first.sid in watch.gone else told(first, watch.app)
        if first.app.update_error_code and first.app.target_sid == watch.app.sid:
            why = f"{reason(first.app.update_error_code)} (error {first.app.update_error_code})"
        raise Failure(
            f"{len(bad)} of {len(watch.devices)} devices do not run {watch.app.name}; {first.name}: {why}."
            + (f" {len(bulk.refused)} more may not have it; {bulk.refused[0]}" if bulk.refused else ""),
            f"See: fleetvisor devices show {first.name}",
        )
    if timed_out:
        raise Failure(
            f"{late} of {len(watch.devices)} devices did not run {watch.app.name} in time.",
            "They keep this target and update when they next connect.",
        )


def _follow(session: Session, watch: Watch, timeout_s: float | None) -> bool:
    """Ask for each open device until all are through; give whether the time ran out first."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    heard = time.monotonic()
    with _shown(session.out, watch) as show:
        for device in list(watch.devices.values()):
            watch.take(device)
            show(device)
        while watch.open:
            if deadline is not None and time.monotonic() >= deadline:
                return True
            time.sleep(_INTERVAL_S)
            try:
                for sid in watch.open:
                    device = _present(session, sid)
                    heard = time.monotonic()
                    if device is None:
                        watch.lose(sid)
                        continue
                    watch.take(device)
                    show(device)
            except Unreachable as problem:
                # A server that restarts must not end the wait of a whole fleet.
                if problem.lasting or time.monotonic() - heard > _ABSENCE_S:
                    raise
    return False


def _present(session: Session, sid: str) -> Device | None:
    """Fetch a device; ``None`` when it was removed."""
    try:
        return session.client.device(sid)
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        return None


class _Lines:
    """Shows changes as lines, where nothing that moves may be shown."""

    def __init__(self, out: Output, app: App) -> None:
        self._out = out
        self._app = app
        self._last: dict[str, str] = {}

    def __call__(self, device: Device) -> None:
        text = told(device, self._app)
        stage = text.partition(" ")[0] if text.startswith("downloading") else text
        if self._last.get(device.sid) != stage:
            self._last[device.sid] = stage
            self._out.note(f"{device.name}: {text}")


class _Bars:
    """Shows one bar per device."""

    def __init__(self, progress: Progress, app: App) -> None:
        self._progress = progress
        self._app = app
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, device: Device) -> None:
        task = self._tasks.get(device.sid)
        if task is None:
            task = self._tasks[device.sid] = self._progress.add_task(clean(device.name), total=100, state="")
        update = device.update
        done = 0.0
        if judge(device, self._app) is Outcome.DONE:
            done = 100.0
        elif update is not None and update.app_sid == self._app.sid and update.bytes_total:
            # The last tenth is the boot, the self-test and the report.
            done = 90.0 * update.bytes_done / update.bytes_total
        self._progress.update(task, completed=done, state=told(device, self._app))


@contextmanager
def _shown(out: Output, watch: Watch) -> Generator[_Lines | _Bars]:
    if not out.lively:
        yield _Lines(out, watch.app)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    with Progress(*columns, console=out.stderr, transient=True) as progress:
        yield _Bars(progress, watch.app)
