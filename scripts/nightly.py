"""Runs thousands of simulated worlds, of boards and of rollouts: what ``make test`` runs 50 of each, at length.

``make nightly`` runs 10,000 of each kind on all cores; ``ARGS="--worlds 500 --first 20000"`` runs others. A world that
breaks a promise is printed with the command that runs it again, and the exit code is 1.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import track

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
    parser.add_argument("--only", choices=KINDS, help="only this kind")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many processes")
    options = parser.parse_args()
    console, broken = Console(), 0
    for kind in KINDS if options.only is None else (options.only,):
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
    console.print(f"{broken} broke a promise" if broken else "every promise held")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
