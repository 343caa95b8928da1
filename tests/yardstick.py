"""Processor time, as the machine that the bounds were set on would take it.

A bound such as "5 ms for 16 KiB" means nothing on a machine that is three times slower, or that shares its caches with
a busy neighbour. A fixed piece of work of the same kind is timed beside what is tested, and the time is divided by
that. A fault that the bounds are for takes tens to thousands of times too long, so this hides none.
"""

import re
import time
from collections.abc import Callable

REFERENCE_S = 0.002
"""What ``_work`` takes on the machine that the bounds were set on: two cores of an EPYC at 2.4 GHz, Python 3.11."""
SLOWEST = 4.0
_ESCAPED = re.compile(r"\\(.)")


def _work() -> int:
    total = 0
    for number in range(20_000):
        total = (total + number * number) % 65_537
    _ESCAPED.sub(lambda found: found[0], "\\" * 2_000)
    return total + len("".join(str(number) for number in range(3_000)).split("7"))


def slowness() -> float:
    """Return how many times slower this machine is now than the reference: 1 to 4."""
    best = min(_time(_work) for _ in range(3))
    return min(SLOWEST, max(1.0, best / REFERENCE_S))


def seconds(work: Callable[[], object], most_s: float, tries: int = 8) -> float:
    """Return the processor time of ``work``, in seconds of the reference machine.

    The best of several tries counts; the first that is within ``most_s`` ends them.
    """
    best = float("inf")
    for _ in range(tries):
        took = _time(work)
        best = min(best, took if took <= most_s else took / slowness())
        if best <= most_s:
            break
    return best


def _time(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
