"""How a scenario shows a rollout that is under way: on a terminal a table that moves; elsewhere a line now and then."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleetvisor.cli.output import Output, clean
from fleetvisor.cli.rollout_view import counted
from fleetvisor.client.rollouts import Rollout

_ALWAYS: Final = ("updating", "succeeded", "failed")
_LINE_EVERY_S: Final = 2.0
_STYLES: Final = {"updating": "yellow", "succeeded": "green", "failed": "red", "silent": "red"}


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
        said = f"  {rollout.state}, wave {rollout.wave} of {len(rollout.waves)}: {counted(rollout.counts)}"
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
