"""What a scenario reads of rollouts from the REST API, and how it shows one that is under way.

On a terminal a table that moves; elsewhere a line now and then. Deliberately decides nothing.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleetvisor.cli.output import Output, clean
from fleetvisor.client.resources import Resource, make_form, read, walk

if TYPE_CHECKING:
    from fleetvisor.client.http import Http

_ALWAYS: Final = ("updating", "succeeded", "failed")
UNTOUCHED: Final = frozenset({"left", "skipped", "unchanged"})
_LINE_EVERY_S: Final = 2.0
_STYLES: Final = {"updating": "yellow", "succeeded": "green", "failed": "red", "silent": "red"}


class Decision(msgspec.Struct, kw_only=True):
    """What the guard or an operator decided."""

    wave: int
    verdict: str
    code: str
    sentence: str


class Wave(msgspec.Struct, kw_only=True):
    """A wave, and how many of its devices are in each state."""

    position: int
    size: str
    state: str
    counts: dict[str, int]

    @property
    def said(self) -> str:
        """Return the counts that are not 0, for people."""
        return _counts(self.counts) or "nothing offered"


class Waits(msgspec.Struct, kw_only=True):
    """What a rollout waits for."""

    code: str
    sentence: str


class Rollout(Resource, kw_only=True):
    """A rollout."""

    sid: str
    kind: str
    state: str
    wave: int
    waves: list[Wave]
    counts: dict[str, int]
    decision: Decision | None = None
    waits_for: Waits | None = None
    canceling: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in {"stopped", "aborted", "completed"} and not self.canceling


class Member(Resource, kw_only=True):
    """What became of a device in a rollout."""

    device_sid: str
    wave: int
    state: str
    error_code: int
    reason: str = ""


class PlannedWave(msgspec.Struct, kw_only=True):
    """What a wave would come to."""

    size: str
    devices: int


class Plan(Resource, kw_only=True):
    """What a rollout would do if it began now."""

    selected: int
    waves: list[PlannedWave]


class Rollouts:
    """The calls a scenario makes. Each raises ``ApiProblem`` and ``Unreachable``."""

    def __init__(self, http: "Http") -> None:
        """Speak through ``http``."""
        self._http = http

    def draft(self, **form: str | None) -> Rollout:
        """Draft a rollout."""
        return read(self._http.post("/v1/Rollouts", make_form(**form)), Rollout)

    def start(self, sid: str) -> Rollout:
        """Start a draft."""
        return read(self._http.post(f"/v1/Rollouts/{sid}", make_form(Action="start")), Rollout)

    def delete(self, sid: str) -> None:
        """Remove a draft."""
        self._http.delete(f"/v1/Rollouts/{sid}")

    def get(self, sid: str) -> Rollout:
        """Fetch a rollout."""
        return read(self._http.get(f"/v1/Rollouts/{sid}"), Rollout)

    def plan(self, sid: str) -> Plan:
        """Ask what a draft would do."""
        return read(self._http.get(f"/v1/Rollouts/{sid}/Plan", {"Sample": 1}), Plan)

    def decisions(self, sid: str) -> Sequence[Decision]:
        """Return what was decided, newest first."""
        items = self._http.pages(f"/v1/Rollouts/{sid}/Decisions", "decisions", 100)
        return [msgspec.json.decode(item, type=Decision) for item in items]

    def members(self, sid: str) -> list[Member]:
        """Return what became of each device."""
        return list(walk(self._http, f"/v1/Rollouts/{sid}/Devices", "rollout_devices", Member))


class Board:
    """Where a rollout is shown while it goes on."""

    def __init__(self, out: Output, live: Live | None) -> None:
        """Show it on ``live``, or else as lines."""
        self._out = out
        self._live = live
        self._last: tuple[str, int, str] | None = None
        self._said: str = ""
        self._said_s = 0.0

    def show(self, rollout: Rollout, title: str) -> None:
        """Show where a rollout stands."""
        if self._live is not None:
            self._live.update(Group(_table(rollout, title), Text(clean(_sentence(rollout)))), refresh=True)
            return
        step = (rollout.sid, rollout.wave, rollout.state)
        said = f"  {rollout.state}, wave {rollout.wave} of {len(rollout.waves)}: {_counts(rollout.counts)}"
        due = step != self._last or time.monotonic() - self._said_s >= _LINE_EVERY_S
        if due and said != self._said and any(rollout.counts.values()):
            self._last, self._said, self._said_s = step, said, time.monotonic()
            self._out.note(said)


@contextmanager
def board(out: Output) -> Generator[Board]:
    """Open a place to show a rollout; on a terminal its last state stays there."""
    if not out.lively:
        yield Board(out, None)
        return
    with Live(console=out.stderr, auto_refresh=False) as live:
        yield Board(out, live)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def _sentence(rollout: Rollout) -> str:
    if rollout.state == "running" and rollout.waits_for is not None:
        return rollout.waits_for.sentence
    return "" if rollout.decision is None else rollout.decision.sentence


def _table(rollout: Rollout, title: str) -> Table:
    table = Table(title=f"{title}: {rollout.state}", title_justify="left", expand=False)
    for column in ("wave", "up to", "state"):
        table.add_column(column, no_wrap=True, min_width=8 if column == "state" else None)
    states = [*_ALWAYS, *(state for state, count in rollout.counts.items() if count and state not in _ALWAYS)]
    for state in states:
        table.add_column(state, justify="right")
    for wave in rollout.waves:
        numbers = [
            Text(str(count), style=_STYLES.get(state, "")) if (count := wave.counts.get(state, 0)) else Text("-", "dim")
            for state in states
        ]
        table.add_row(str(wave.position), wave.size, wave.state, *numbers)
    return table
