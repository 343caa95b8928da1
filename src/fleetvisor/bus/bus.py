"""A doorbell: SIDs whose state changed, told to whoever listens in this process.

Lossy by contract: a ring that nobody heard costs latency, never correctness. Deliberately carries no data; the
listener reads the database. Until a second adapter lands this is one class, not a port.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

import structlog

Hear = Callable[[frozenset[str]], None]
_log = structlog.get_logger()


class Bus:
    """Rings SIDs to listeners, at once and in order of listening.

    ``fresh`` says whether answers kept in memory may be trusted: always, where one process makes every
    change; with several nodes, only while the reading of the change log is current. ``alone`` says that one process
    makes every change, those of presence included, which no change log tells of. ``age`` gives the seconds since the
    change log was last read to its end.
    """

    def __init__(self) -> None:
        """Start with no listeners, and fresh."""
        self.fresh = True
        self.alone = True
        self.age: Callable[[], float] = lambda: 0.0
        self._listeners: list[Hear] = []
        self._watches: list[set[str]] = []

    def ring(self, sids: Iterable[str]) -> None:
        """Tell every listener that what these SIDs name may have changed."""
        changed = frozenset(sids)
        if changed:
            for rung in self._watches:
                rung.update(changed)
            for hear in tuple(self._listeners):
                try:
                    hear(changed)
                except Exception as error:  # noqa: BLE001  (the change is made: whoever made it, and the others, go on)
                    _log.error("bus.listener_failed", exc_info=error)

    def listen(self, hear: Hear) -> Callable[[], None]:
        """Call ``hear`` at every ring (it must not wait); call what is returned to stop."""
        self._listeners.append(hear)

        def stop() -> None:
            self._listeners.remove(hear)

        return stop

    @contextmanager
    def watch(self) -> Generator[set[str], None, None]:
        """Collect the SIDs that ring while something is read: what rang may be newer than what was read."""
        rung: set[str] = set()
        self._watches.append(rung)
        try:
            yield rung
        finally:
            self._watches[:] = [watch for watch in self._watches if watch is not rung]
