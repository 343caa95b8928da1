"""The change log as another node reads it: every event once its transaction has ended, and none is waited for.

In PostgreSQL an id is given before its row is committed, so neither ids nor writers are in the order of commits. A
reader therefore keeps a snapshot: where it stands, and which transactions were unfinished then. It reads on from
there, and looks at those transactions again. So a transaction that stays open, in any database of the cluster, delays
no event but its own. An event may be read twice. On SQLite, where commits are in order, no transaction is unfinished.
Spec: ``docs/adr/0004-change-log-order.md``.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.events.store import Event

_COLUMNS: Final = "SELECT event_id, writer, account_sid, type, subject_sid, device_sid, data, date_created FROM events"
_AFTER: Final = "(writer, event_id) > (:writer, :event_id)"
_ORDER: Final = "ORDER BY writer, event_id LIMIT :limit"
_NEW: Final = f"{_COLUMNS} WHERE {_AFTER} AND writer < :end {_ORDER}"
_TOGETHER: Final = 16
_WRITERS: Final = ", ".join(f":w{number}" for number in range(_TOGETHER))
_LATE: Final = f"{_COLUMNS} WHERE writer IN ({_WRITERS}) AND {_AFTER} AND writer < :upto {_ORDER}"
_LAST: Final = "SELECT event_id, writer FROM events WHERE writer < :end ORDER BY writer DESC, event_id DESC LIMIT 1"


class _Snapshot(msgspec.Struct, frozen=True):
    """``lowest:end:unfinished,…``: of the transactions before ``end``, these had not ended."""

    snapshot: str

    @property
    def end(self) -> int:
        return int(self.snapshot.split(":")[1])

    @property
    def unfinished(self) -> tuple[int, ...]:
        return tuple(int(writer) for writer in self.snapshot.split(":")[2].split(",") if writer)


class _Last(msgspec.Struct, frozen=True):
    event_id: int
    writer: int


class Place(msgspec.Struct, frozen=True):
    """Where a reader stands: at the last event in the order of writers, and who had not ended then."""

    writer: int
    event_id: int
    unfinished: tuple[int, ...]


class Reader:
    """Reads the log from the moment of its first reading on."""

    def __init__(self, db: Database, limit: int = 1000) -> None:
        """Stand nowhere yet; pages have at most ``limit`` events."""
        self._db = db
        self._limit = limit
        self.place: Place | None = None

    async def start(self) -> None:
        """Stand after every event whose transaction has ended."""
        snapshot = await self._snapshot()
        last = await self._db.one(_Last, _LAST, {"end": snapshot.end})
        writer, event_id = (-1, 0) if last is None else (last.writer, last.event_id)
        self.place = Place(writer, event_id, snapshot.unfinished)

    async def pages(self) -> AsyncIterator[list[Event]]:
        """Yield what was committed since the last reading. Only a reading that came to its end moves the place."""
        if self.place is None:
            await self.start()
        place = self.place
        if place is None:
            raise AssertionError("a reader that began stands somewhere")
        snapshot = await self._snapshot()
        upto = {"upto": min(place.writer + 1, snapshot.end)}
        for first in range(0, len(place.unfinished), _TOGETHER):
            some = place.unfinished[first : first + _TOGETHER]
            writers = {f"w{n}": some[n] if n < len(some) else -1 for n in range(_TOGETHER)}
            async for page in self._pages(_LATE, writers | upto, (-1, 0)):
                yield page
        at = (place.writer, place.event_id)
        async for page in self._pages(_NEW, {"end": snapshot.end}, at):
            at = (page[-1].writer, page[-1].event_id)
            yield page
        self.place = Place(*at, snapshot.unfinished)

    async def _pages(self, sql: str, params: dict[str, int], after: tuple[int, int]) -> AsyncIterator[list[Event]]:
        while True:
            at = {"writer": after[0], "event_id": after[1], "limit": self._limit}
            page = await self._db.all(Event, sql, {**params, **at})
            if page:
                yield page
            if len(page) < self._limit:
                return
            after = (page[-1].writer, page[-1].event_id)

    async def _snapshot(self) -> _Snapshot:
        found = await self._db.one(_Snapshot, "SELECT current_snapshot() AS snapshot", {})
        if found is None:
            raise AssertionError("a statement without a table has one row")
        return found
