"""What devices fetched of their updates: noted in memory while bytes flow, and written behind.

A device that downloads is heard of: each note moves the deadline of its update. An update that succeeds without a note
is told of. Deliberately no timer: ``features/devices/presence`` writes the notes with its own, once a second, and
whoever closes an update writes those of its device first.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from fleetvisor.db.database import Tx
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import DEVICE_FETCHES
from fleetvisor.ground.sids import DeviceSid

_WRITE: Final = """
UPDATE updates SET date_fetched = :now,
    date_deadline = CASE WHEN cancel_requested = 0 AND COALESCE(date_deadline, 0) < :deadline
        THEN :deadline ELSE date_deadline END
WHERE device_sid = :device_sid AND open_app_sid IS NOT NULL AND (app_hash = :digest OR EXISTS (
    SELECT 1 FROM app_layers l WHERE l.app_sid = updates.open_app_sid AND l.digest = :digest))"""

_DIGESTS_MAX: Final = 16
_QUIET_S_MAX: Final = 60


class Fetch(NamedTuple):
    """Bytes of the content ``digest`` went to a device at ``date``."""

    device_sid: DeviceSid
    digest: str
    date: Millis


class Fetches:
    """Notes since the last flush. Bounded: what does not fit is noted at the next piece."""

    def __init__(self, limits: Limits) -> None:
        """Start with nothing noted. A content is noted again for the same device a quarter of the time-out later."""
        self._timeout_ms = limits.report_timeout_s * 1000
        self._quiet_ms = min(_QUIET_S_MAX * 1000, self._timeout_ms // 4)
        self._noted: dict[DeviceSid, dict[str, Millis]] = {}
        self._last: dict[DeviceSid, tuple[str, Millis]] = {}

    def note(self, device_sid: DeviceSid, digest: str, now: Millis) -> None:
        """Note that bytes of a content go to a device; a download that goes on is noted seldom."""
        last = self._last.get(device_sid)
        if last is not None and last[0] == digest and 0 <= now - last[1] < self._quiet_ms:
            return
        noted = self._noted.get(device_sid)
        if noted is None:
            if len(self._noted) >= DEVICE_FETCHES.members_max:
                return
            noted = self._noted[device_sid] = {}
        if len(noted) >= _DIGESTS_MAX and digest not in noted:
            return
        noted[digest] = now
        if len(self._last) >= DEVICE_FETCHES.members_max:
            self._last.clear()
        self._last[device_sid] = (digest, now)

    def of(self, device_sid: DeviceSid) -> tuple[Fetch, ...]:
        """Return what is noted of a device and not yet written; the notes stay, and writing them twice is harmless."""
        return tuple(Fetch(device_sid, digest, now) for digest, now in self._noted.get(device_sid, {}).items())

    def take(self) -> tuple[Fetch, ...]:
        """Return all notes, in the order of devices, and forget them: ``keep`` brings back what was not written."""
        noted, self._noted = self._noted, {}
        # sorted: nodes that write the same devices then lock their rows in the same order
        return tuple(Fetch(sid, digest, now) for sid in sorted(noted) for digest, now in sorted(noted[sid].items()))

    def keep(self, fetches: Iterable[Fetch]) -> None:
        """Bring back notes that could not be written; newer ones win."""
        for fetch in fetches:
            self._noted.setdefault(fetch.device_sid, {}).setdefault(fetch.digest, fetch.date)

    async def write(self, tx: Tx, fetches: Sequence[Fetch]) -> None:
        """Write notes to the open updates that they belong to; what belongs to none is dropped."""
        rows: list[dict[str, str | int]] = [
            {
                "device_sid": fetch.device_sid,
                "digest": fetch.digest,
                "now": fetch.date,
                "deadline": fetch.date + self._timeout_ms,
            }
            for fetch in fetches
        ]
        await tx.write_many(_WRITE, rows)
