"""When each device was last seen, which updates were fetched for the first time, and what of them: written behind.

All are noted in memory on the request's path, and ``flush`` writes them in one transaction, once a second. So the
last second may be lost: a device is then seen again at its next poll, and the clock of an update starts then. A note
about a device that was removed meanwhile is dropped.
Deliberately no timer: ``server/background`` calls ``flush``.
"""

from collections.abc import Callable, Iterable
from typing import Final

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.ground.clock import AHEAD_MS, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import DEVICES_SEEN
from fleetvisor.ground.sids import DeviceSid

_SEEN: Final = f"""
INSERT INTO presence (device_sid, date_seen)
SELECT device_sid, :date_seen FROM devices WHERE device_sid = :device_sid
ON CONFLICT (device_sid) DO UPDATE SET date_seen = excluded.date_seen
WHERE excluded.date_seen > presence.date_seen OR presence.date_seen > excluded.date_seen + {AHEAD_MS}"""
# A sighting further ahead of the next one was noted by a clock that was wrong: it does not stay.


class Presence:
    """Notes of what devices did since the last flush. Bounded: what does not fit is noted at the next poll."""

    def __init__(
        self,
        *,
        db: Database,
        limits: Limits,
        written: Callable[[Iterable[str]], None] = lambda _: None,
        fetches: Fetches | None = None,
    ) -> None:
        """Start with nothing noted; ``written`` is told which devices' rows changed, after each flush.

        ``fetches`` are written with them.
        """
        self._fetches = fetches or Fetches(limits)
        self._written = written
        self._db = db
        self._limits = limits
        self._members_max = DEVICES_SEEN.members_max
        self._seen: dict[DeviceSid, Millis] = {}
        self._fetched: dict[DeviceSid, tuple[int, Millis]] = {}
        self._started: dict[DeviceSid, int] = {}

    def note(self, device_sid: DeviceSid, now: Millis) -> None:
        """Note that the device was there at ``now``."""
        seen = self._seen
        if device_sid in seen or len(seen) < self._members_max:
            seen[device_sid] = now

    def note_fetch(self, device_sid: DeviceSid, number: int, now: Millis) -> None:
        """Note that the device has the offer of its update ``number``; only the first time starts its clock."""
        if self._started.get(device_sid) == number:
            return
        noted = self._fetched.get(device_sid)
        if noted is None and len(self._fetched) >= self._members_max:
            return
        if noted is None or noted[0] != number:
            self._fetched[device_sid] = (number, now)

    def note_download(self, device_sid: DeviceSid, digest: str, now: Millis) -> None:
        """Note that bytes of a content go to the device."""
        self._fetches.note(device_sid, digest, now)

    async def flush(self) -> int:
        """Write what was noted, in one transaction; return the number of devices. What fails is kept for the next."""
        seen, fetched, downloads = self._seen, self._fetched, self._fetches.take()
        if not seen and not fetched and not downloads:
            return 0
        self._seen, self._fetched = {}, {}
        wait = self._limits.report_timeout_s * 1000
        # sorted: nodes that write the same devices then lock their rows in the same order
        sightings = [{"device_sid": sid, "date_seen": now} for sid, now in sorted(seen.items())]
        starts: list[dict[str, str | int]] = [
            {"device_sid": sid, "number": number, "deadline": now + wait}
            for sid, (number, now) in sorted(fetched.items())
        ]

        async def body(tx: Tx) -> None:
            if sightings:
                await tx.write_many(_SEEN, sightings)
            if starts:
                await updates_store.start_clock(tx, starts)
            if downloads:
                await self._fetches.write(tx, downloads)

        try:
            await self._db.write(body)
        except BaseException:
            self._seen = {**seen, **self._seen}
            self._fetched = {**fetched, **self._fetched}
            self._fetches.keep(downloads)
            raise
        self._written({*seen, *(fetch.device_sid for fetch in downloads)})
        self._remember({sid: number for sid, (number, _) in fetched.items()})
        return len(seen)

    def _remember(self, started: dict[DeviceSid, int]) -> None:
        """Keep which clocks run, so that an unchanged poll does not write; forgetting only costs a write."""
        if len(self._started) + len(started) > self._members_max:
            self._started.clear()
        self._started.update(started)
