"""Runs what lasts too long for ``make test``: simulated worlds of boards and of rollouts, the fuzzer, and mutants.

``make nightly`` runs 10,000 worlds of each kind on all cores, then fuzzes every parser of bytes, an hour in all, and at
last asks of the pure modules whether their tests can fail (``scripts/mutants.py``). ``ARGS="--worlds 500 --first
20000"`` runs other worlds, ``ARGS="--only fuzz --fuzz-s 600"`` the fuzzer alone. A world that breaks a promise is
printed with the command that runs it again; an input that breaks a bound is written to ``.fuzz/``. Then, and when
mutants survive, the exit code is 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import track
from tests.fuzz.engine import Finding, fuzz
from tests.fuzz.targets import TARGETS

from fleetvisor.sim.rollout_world import RolloutRecipe, run_rollouts
from fleetvisor.sim.world import Recipe, run_world

BATCH: Final = 10
#: A line is printed after so many worlds where no progress bar can be drawn: in a log.
LINE_EVERY: Final = 500


class Ended(msgspec.Struct, frozen=True):
    """How a world ended: what it counted, or (``fault``) what broke."""

    seed: int
    counts: dict[str, int]
    fault: str = ""


def of_boards(seed: int) -> Ended:
    """Run a world of boards."""
    try:
        result = run_world(Recipe(seed))
    except Exception as fault:  # noqa: BLE001  (printed by whoever asked, for every world that fails)
        return Ended(seed, {}, _told(fault))
    return Ended(seed, {"boots": result.boots, "flash operations": sum(result.operations)})


def of_rollouts(seed: int) -> Ended:
    """Run a world of rollouts."""
    try:
        outcome = run_rollouts(RolloutRecipe(seed))
    except Exception as fault:  # noqa: BLE001  (as above)
        return Ended(seed, {}, _told(fault))
    counts = {"nodes died": outcome.deaths}
    for name, found in (("rollouts", outcome.rollouts), ("devices", outcome.devices), ("decisions", outcome.decisions)):
        counts |= {f"{name} {what}": count for what, count in found.items()}
    return Ended(seed, counts)


def _told(fault: Exception) -> str:
    return "\n".join([f"{type(fault).__name__}: {fault}", *getattr(fault, "__notes__", [])[-1:]])


FUZZ: Final = "fuzz"
MUTANTS: Final = "mutants"
FINDINGS: Final = Path(".fuzz")


class Fuzzed(msgspec.Struct, frozen=True):
    """How the fuzzing of one parser ended: with how many inputs, or (``fault``) with which finding."""

    name: str
    inputs: int
    fault: str = ""


def of_parser(name: str, seed: int, seconds: float) -> Fuzzed:
    """Fuzz one parser; keep the input that breaks a bound."""
    target = next(target for target in TARGETS if target.name == name)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Fuzzed(name, fuzz(target, Path(folder), seed=seed, seconds=seconds))
        except Finding as found:
            FINDINGS.mkdir(exist_ok=True)
            (FINDINGS / found.name).write_bytes(found.data)
            return Fuzzed(name, 0, str(found))


def fuzz_all(first: int, seconds: float, workers: int) -> Iterator[Fuzzed]:
    """Fuzz every parser for an equal share of the time; give each as it ends."""
    share = seconds * workers / len(TARGETS)
    with ProcessPoolExecutor(workers) as pool:
        count = len(TARGETS)
        yield from pool.map(of_parser, (one.name for one in TARGETS), [first] * count, [share] * count)


KINDS: Final[dict[str, Callable[[int], Ended]]] = {"boards": of_boards, "rollouts": of_rollouts}


def run(kind: str, first: int, worlds: int, workers: int) -> Iterator[Ended]:
    """Run the worlds of one kind; give each as it ends, in the order of the seeds."""
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(KINDS[kind], range(first, first + worlds), chunksize=BATCH)


def main() -> int:
    """Run what the arguments name; give 0 when every promise held, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m scripts.nightly", description=__doc__)
    parser.add_argument("--worlds", type=int, default=10_000, help="how many of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", choices=[*KINDS, FUZZ, MUTANTS], help="only this kind")
    parser.add_argument("--fuzz-s", type=float, default=3600, help="for how many seconds the parsers are fuzzed")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many processes")
    options = parser.parse_args()
    console, broken = Console(), 0
    for kind in KINDS if options.only is None else {options.only} & set(KINDS):
        counts: Counter[str] = Counter()
        worlds = run(kind, options.first, options.worlds, options.workers)
        bar = track(worlds, f"worlds of {kind}", options.worlds, console=console, disable=not console.is_terminal)
        for done, ended in enumerate(bar, 1):
            counts.update(ended.counts)
            if ended.fault:
                broken += 1
                console.print(ended.fault, markup=False, highlight=False, soft_wrap=True)
            if not console.is_terminal and done % LINE_EVERY == 0:
                console.print(f"{done} of {options.worlds} worlds of {kind}, {broken} broke a promise")
        console.print(
            f"{options.worlds} worlds of {kind}: {', '.join(f'{n} {what}' for what, n in counts.items())}",
            soft_wrap=True,
        )
    if options.only in (None, FUZZ):
        for fuzzed in fuzz_all(options.first, options.fuzz_s, options.workers):
            broken += bool(fuzzed.fault)
            told = fuzzed.fault or f"{fuzzed.inputs} inputs for {fuzzed.name}"
            console.print(told, markup=False, highlight=False, soft_wrap=True)
    if options.only in (None, MUTANTS):
        broken += subprocess.run([sys.executable, "-m", "scripts.mutants"], check=False).returncode != 0
    console.print(f"{broken} broke a promise" if broken else "every promise held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
