"""Follows a rollout until it ends: a moving picture on a terminal, a line per change elsewhere.

What is shown comes from the API's Rollout alone, so that any other program can show the same. Deliberately changes
nothing: whoever stops watching leaves the rollout as it is.
"""

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from rich.live import Live

from fleetvisor.cli import rollout_view as view
from fleetvisor.cli.devices import AppNames
from fleetvisor.cli.options import ExitCode, Failure, Session
from fleetvisor.cli.output import Output
from fleetvisor.client.answers import ApiProblem, Unreachable
from fleetvisor.client.rollouts import Rollout

_INTERVAL_S: Final = 0.5
_ABSENCE_S: Final = 60.0
_APP_SID: Final = re.compile(r"\bKA[0-9a-f]{32}\b")
Show = Callable[[Rollout], None]


def watch(session: Session, rollout: Rollout, timeout_s: float | None) -> None:
    """Show ``rollout`` until it has ended, then what it came to. Raises ``Failure`` unless it was completed."""
    app = app_name(session, rollout)
    with _shown(session.out, app) as show:
        last = _follow(session, rollout, timeout_s, show)
    if session.out.json:
        session.out.line(last.document)
    else:
        show_whole(session, last, app)
    conclude(last)


def app_name(session: Session, rollout: Rollout) -> str | None:
    """Return what people call the app of a rollout; nobody is asked where it is not to be read by eyes."""
    return None if session.out.json else AppNames(session.client)[rollout.app_sid]


def show_whole(session: Session, rollout: Rollout, app: str | None) -> None:
    """Write a rollout as its facts and a table of its waves, or as JSON."""
    if session.out.json:
        session.out.record(rollout.document)
        return
    names = AppNames(session.client)
    told = view.facts(rollout, app)
    told["selector"] = _APP_SID.sub(lambda found: names[found[0]] or found[0], told["selector"])
    session.out.record(told)
    session.out.write("")
    session.out.table(view.WAVE_COLUMNS, view.wave_rows(rollout))


def conclude(rollout: Rollout) -> None:
    """Demand that a rollout was completed. Raises ``Failure``: for its own end, and for one still under way."""
    if rollout.date_ended is None:
        raise Failure(
            f"The rollout did not end in time: it is {rollout.state}, wave {view.place(rollout)}.",
            f"The rollout continues. See: fleetvisor rollouts watch {rollout.sid}",
        )
    if rollout.state == "completed":
        return
    why = f" {rollout.decision.sentence}" if rollout.state == "stopped" and rollout.decision is not None else ""
    hint = f"See: fleetvisor rollouts devices {rollout.sid} --state failed"
    if rollout.date_started is not None and rollout.kind == "release":
        hint += f"\nTake it back with: fleetvisor rollouts rollback {rollout.sid}"
    raise Failure(f"The rollout was {rollout.state}.{why}", hint, ExitCode.STOPPED)


def change(rollout: Rollout) -> tuple[object, ...]:
    """Return what must differ for a rollout to be worth a line of its own."""
    return (rollout.state, rollout.wave, None if rollout.decision is None else rollout.decision.number)


def _follow(session: Session, rollout: Rollout, timeout_s: float | None, show: Show) -> Rollout:
    """Ask until the rollout has ended or the time is over; return what it is then."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    heard = time.monotonic()
    show(rollout)
    while rollout.date_ended is None:
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(_INTERVAL_S)
        try:
            rollout = session.rollouts.get(rollout.sid)
            heard = time.monotonic()
            show(rollout)
        except Unreachable as problem:
            # A server that restarts must not end the watch of a whole fleet.
            if problem.lasting or time.monotonic() - heard > _ABSENCE_S:
                raise
        except ApiProblem as problem:
            if problem.status == 404:
                raise Failure("The rollout was removed meanwhile.", None, ExitCode.NOT_FOUND) from problem
            if problem.status < 500 or time.monotonic() - heard > _ABSENCE_S:
                raise
    return rollout


class _Lines:
    """Tells people of changes in lines, where nothing that moves may be shown."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: tuple[object, ...] = ()

    def __call__(self, rollout: Rollout) -> None:
        now = change(rollout)
        if now != self._last:
            self._last = now
            self._out.note(view.line(rollout))


class _Documents:
    """Tells programs of changes, of counts too: one JSON object a line."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: tuple[object, ...] = ()

    def __call__(self, rollout: Rollout) -> None:
        now = (*change(rollout), sorted(rollout.counts.items()))
        if now == self._last:
            return
        self._last = now
        known = rollout.fields()
        told = ("state", "wave", "counts", "failure_rate", "failure_rate_lower", "failure_rate_upper")
        self._out.line(
            {"rollout_sid": rollout.sid, **{name: known.get(name) for name in (*told, "decision", "waits_for")}}
        )


@contextmanager
def _shown(out: Output, app: str | None) -> Generator[Show]:
    if out.json:
        yield _Documents(out)
    elif not out.lively:
        yield _Lines(out)
    else:
        with Live(console=out.stderr, auto_refresh=False, transient=True) as live:
            yield lambda rollout: live.update(view.picture(rollout, app), refresh=True)
