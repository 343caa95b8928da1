"""The port to blocking work: on a thread in a server, at once in the simulator."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Runs work that blocks (disk, hashing) where it holds nobody up."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run ``work`` and give what it returns, or raise what it raises."""
        ...
