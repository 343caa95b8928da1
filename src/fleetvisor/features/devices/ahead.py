"""Contacts of the future, noted by a clock that was wrong: they are set to now, once that is noticed.

Left alone, such a device would be "seen just now" until its date comes. Until it is mended, a contact of the future
proves nothing (``selection``), and it is shown as now (``store``). The contacts are looked through after the start,
after the clock went back, and once an hour.
Deliberately no timer: ``server/background`` calls ``mend``.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.ground.clock import Clock, Millis

AHEAD_MS: Final = 300_000  # by how much the clocks of a server's nodes may differ
PERIOD_S: Final = 30.0
_RUNS: Final = 120  # of which one looks at all contacts: one an hour
_PIECE: Final = 1000
_FIND: Final = """SELECT device_sid FROM presence WHERE device_sid > :after AND date_seen > :latest
    ORDER BY device_sid LIMIT :most"""
_MEND: Final = "UPDATE presence SET date_seen = :now WHERE device_sid = :device_sid AND date_seen > :latest"


class _Found(msgspec.Struct, frozen=True):
    device_sid: str


class Ahead:
    """Mends contacts of the future."""

    def __init__(
        self, *, db: Database, clock: Clock, written: Callable[[Iterable[str]], None] = lambda _: None
    ) -> None:
        """Begin with all to look through; ``written`` is told which devices' contacts changed."""
        self._db = db
        self._clock = clock
        self._written = written
        self._left = 0
        self._last = Millis(0)

    async def mend(self) -> int:
        """Set contacts of the future to now, when it is time to look; return how many they were."""
        now = self._clock.now()
        if now >= self._last and self._left > 0:
            self._last, self._left = now, self._left - 1
            return 0
        count, after = 0, ""
        while found := await self._db.scan(_Found, _FIND, {"after": after, "latest": now + AHEAD_MS, "most": _PIECE}):
            await self._set([row.device_sid for row in found], now)
            count, after = count + len(found), found[-1].device_sid
        self._last, self._left = now, _RUNS
        return count

    async def _set(self, sids: list[str], now: Millis) -> None:
        rows = [{"device_sid": sid, "now": now, "latest": now + AHEAD_MS} for sid in sids]

        async def body(tx: Tx) -> None:
            await tx.write_many(_MEND, rows)

        await self._db.write(body)
        self._written(sids)
