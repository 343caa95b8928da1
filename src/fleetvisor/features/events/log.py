"""Events as people read them: listed newest first, kept for a time, then forgotten from the oldest on."""

from typing import Final

from fleetvisor.db.database import Database
from fleetvisor.features.events import store
from fleetvisor.features.events.store import Filter, Listed
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Page, PageRequest, page_of
from fleetvisor.ground.sids import AccountSid

_FORGET_ROWS: Final = 5_000


class EventLog:
    """The verbs on events."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._limits = limits

    async def list(self, account_sid: AccountSid, wanted: Filter, page: PageRequest) -> Page[Listed]:
        """Return a page of the account's events, newest first."""
        cursor = page.cursor
        key = None if cursor is None else (int(cursor.key[0]), int(cursor.key[1]))
        newer = cursor is not None and not cursor.forward
        rows = await store.page(self._db, account_sid, wanted, key=key, limit=page.size + 1, newer=newer)
        return page_of(rows, page, lambda event: (event.date_created, event.event_id))

    async def forget(self) -> int:
        """Remove some of the events that were kept for their time; return how many. Refusals have their own time."""
        now, limits = self._clock.now(), self._limits
        before = Millis(now - min(limits.refusals_kept_s, limits.events_kept_s) * 1000)
        count = await store.forget_refusals(self._db, before, _FORGET_ROWS)
        return count + await store.forget(self._db, Millis(now - limits.events_kept_s * 1000), _FORGET_ROWS)
