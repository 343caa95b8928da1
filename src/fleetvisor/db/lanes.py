"""Which connections a statement may use: what keeps devices safe never waits behind what a client asked for.

``requests``: everything else, such as the pages of lists. ``jobs``: background jobs, so that a guard, an abort or a
revocation on another node acts whatever clients do. ``scans``: work on behalf of a client that looks at a whole fleet.
A context variable, so that a statement need not be told whom it works for.
"""

import contextlib
from collections.abc import Generator
from contextvars import ContextVar
from typing import Final, Literal

Lane = Literal["requests", "jobs", "scans"]

_lane: Final[ContextVar[Lane]] = ContextVar("lane", default="requests")


def current() -> Lane:
    """Return the lane of whoever asks."""
    return _lane.get()


def begin(lane: Lane) -> None:
    """Use a lane until the end of this task."""
    _lane.set(lane)


@contextlib.contextmanager
def use(lane: Lane) -> Generator[None]:
    """Use a lane for the block, and for tasks that begin in it."""
    token = _lane.set(lane)
    try:
        yield
    finally:
        _lane.reset(token)
