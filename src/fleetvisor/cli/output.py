"""What a command says, and where: data on stdout, everything else on stderr.

For eyes: tables, in which text that devices or users gave cannot steer the terminal. For machines: ``--json``.
Deliberately no command's knowledge. Spec: ``docs/reference/cli.md``; ``NO_COLOR`` is honoured by rich.
"""

import errno
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

# Cc: controls; Cf: invisible and direction-changing; Cs: halves of characters; Zl, Zp: line ends in disguise.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
Heard = Callable[[int], None]
_WIDE: Final = 1000
_VALUE: Final = 80
STYLES: Final = {
    "up-to-date": "green",
    "pending": "yellow",
    "error": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "succeeded": "green",
    "failed": "red",
    "silent": "magenta",
    "updating": "yellow",
    "running": "yellow",
    "paused": "yellow",
    "completed": "green",
    "released": "green",
    "stopped": "red",
    "aborted": "red",
}


def clean(text: str) -> str:
    r"""Return ``text`` with every character that could steer a terminal written as an escape, such as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSAFE else character for character in text
    )


def lines(text: str) -> str:
    """Return ``text`` as ``clean`` does, but with its line ends: for messages, which may have several lines."""
    return "\n".join(clean(line) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def cell(value: object) -> Text:
    """Return what a table shows of a value: no markup is read from it, and states have their colour."""
    match value:
        case None | "":
            return Text("-", style="dim")
        case True:
            return Text("yes")
        case False:
            return Text("no")
        case _:
            return Text(clean(str(value)), style=STYLES.get(str(value), ""))


class Output:
    """Where a command writes. ``json`` and ``quiet`` are the options of the same name."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        """Write to the present stdout and stderr."""
        self.json = json
        self.quiet = quiet
        self.stdout = _console(stderr=False)
        self.stderr = _console(stderr=True)

    def write(self, text: str) -> None:
        """Write one line of data as it is."""
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  (it was closed before the start)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def line(self, document: bytes | Mapping[str, Any]) -> None:
        """Write one compact JSON object on a line of its own."""
        raw = document if isinstance(document, bytes) else msgspec.json.encode(document)
        self.write(_writable(msgspec.json.format(raw, indent=-1).decode()))

    def record(self, document: bytes | Mapping[str, Any], hidden: Iterable[str] = ()) -> None:
        """Write one thing: as one JSON document, or as its fields, one a line, but for the ``hidden`` ones."""
        raw = document if isinstance(document, bytes) else msgspec.json.encode(document)
        if self.json:
            self.write(_writable(msgspec.json.format(raw, indent=2).decode()))
            return
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        hidden = frozenset(hidden)
        for name, value in _flat(msgspec.json.decode(raw, type=dict[str, Any])):
            if name.partition(".")[0] not in hidden:
                table.add_row(name, cell(value))
        self._show(table)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table for eyes. Nothing is cut: where it is too wide, the terminal wraps, and SIDs can be copied."""
        table = make_table(columns, rows)
        width = self.stdout.width
        natural = Measurement.get(self.stdout, self.stdout.options.update(width=_WIDE), table).maximum
        self.stdout.width = max(width, natural)
        self._show(table)
        self.stdout.width = width

    def _show(self, table: Table) -> None:
        if self.stdout.is_terminal:
            self.stdout.print(table)
            return
        with self.stdout.capture() as captured:
            self.stdout.print(table)
        self.write("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def note(self, text: str) -> None:
        """Tell the person something that is not data, unless ``--quiet``; a machine (``--json``) is told nothing."""
        if not self.quiet and not self.json:
            self.stderr.print(Text(lines(text)), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Tell something that must be seen."""
        if self.json:
            sys.stderr.write(msgspec.json.encode({"warning": text}).decode() + "\n")
            return
        self.stderr.print(Text("Warning: ", style="yellow").append(lines(text), style="default"), soft_wrap=True)

    def problem(self, detail: str, hint: str | None, **more: object) -> None:
        """Print what went wrong and what to do: as text, or with ``--json`` as one JSON object."""
        if self.json:
            sys.stderr.write(msgspec.json.encode({"error": detail, "hint": hint, **more}).decode() + "\n")
            return
        self.stderr.print(
            Text("Error: ", style="bold red").append(lines(detail), style="not bold default"), soft_wrap=True
        )
        if hint:
            self.stderr.print(Text(lines(hint)), soft_wrap=True)

    @property
    def lively(self) -> bool:
        """Return whether something that moves may be shown: a person watches stderr and did not ask for quiet."""
        return self.stderr.is_terminal and not self.quiet

    @contextmanager
    def upload(self, file: Path) -> Generator[Heard]:
        """Show how much of ``file`` is sent; return the function to tell it to."""
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        with Progress(*columns, console=self.stderr, disable=not self.lively, transient=True) as progress:
            task = progress.add_task(f"Uploading {clean(file.name)}", total=file.stat().st_size)
            yield lambda size: progress.update(task, completed=size)

    @contextmanager
    def counter(self, what: str, total: int) -> Generator[Heard]:
        """Show how many of ``total`` are done; return the function to tell it to."""
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        shown = self.lively and total > 1
        with Progress(*columns, console=self.stderr, disable=not shown, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)


def _writable(document: str) -> str:
    """Return a JSON document that stdout's encoding can write: with JSON's escapes where it lacks characters."""
    try:
        document.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return re.sub(r"[^\x00-\x7f]+", lambda found: json.dumps(found[0])[1:-1], document)
    return document


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Make a table of cells from plain values."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.upper(), overflow="fold", max_width=_VALUE if name == "value" else None)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    return table


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file or a pipe has no edge to wrap at, and what reads it wants each row on its line.
        console.width = _WIDE
    return console


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Return the fields of nested objects with dotted names."""
    for name, value in fields.items():
        match value:
            case dict():
                yield from _flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
            case list():
                yield from _flat({str(n): item for n, item in enumerate(value, 1)}, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            case _:
                yield f"{prefix}{name}", value
