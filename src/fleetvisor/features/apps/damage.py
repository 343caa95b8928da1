"""Damaged layers: those whose bytes were found to be others than were stored, or missing.

Whoever reads a layer proves it, and tells here what is wrong. Devices then get 503 for it, its apps are ``damaged``,
and rollouts of them are held. An upload of the same bytes mends it, and so does a file that is right again. It reads no
layer: ``channel/layers`` and ``checking`` do. Spec: ``docs/adr/0002-layers-and-their-removal.md``.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from fleetvisor.blobs.store import Blobs
from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps.model import LayerBlob
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Unavailable
from fleetvisor.ground.sids import AccountSid, AppSid
from fleetvisor.obs.health import beat

_RETRY_S: Final = 300
_APPS_TOLD_MAX: Final = 1000  # apps of one layer that get an event each
_PAGE: Final = 200
_SAMPLE: Final = 64
_REASON_CHARS_MAX: Final = 300
_MARK: Final = """
UPDATE layers SET date_damaged = :now WHERE digest = :digest AND blob = :blob AND stored = 1 AND date_damaged IS NULL"""
_MEND: Final = """
UPDATE layers SET date_damaged = NULL, date_checked = :now
WHERE digest = :digest AND blob = :blob AND date_damaged IS NOT NULL"""
_APPS: Final = """
SELECT DISTINCT app_sid, account_sid FROM app_layers WHERE digest = :digest ORDER BY app_sid LIMIT :limit"""
_STORED: Final = """
SELECT digest, blob, size_bytes, 0 AS damaged FROM layers WHERE digest > :digest AND stored = 1 AND date_damaged IS NULL
ORDER BY digest LIMIT :limit"""
_USED: Final = """
SELECT digest, blob, size_bytes, 0 AS damaged FROM layers WHERE stored = 1 AND date_damaged IS NULL AND uses > 0
ORDER BY digest LIMIT :limit"""
_COUNT: Final = "SELECT count(*) AS count FROM layers WHERE date_damaged IS NOT NULL"

_log = structlog.get_logger()


class Damaged(Unavailable):
    """The server cannot do this right now."""

    hint = "The operator must upload the same firmware again. Retry after the number of seconds in Retry-After."

    def __init__(self) -> None:
        """Say what it is, and that it may be mended later."""
        super().__init__(
            "The stored bytes of this firmware are damaged or missing; upload the same file again to repair them.",
            retry_after_s=_RETRY_S,
        )


class _App(msgspec.Struct, frozen=True):
    app_sid: AppSid
    account_sid: AccountSid


class _Count(msgspec.Struct, frozen=True):
    count: int


class Damage:
    """What is known of damaged layers."""

    def __init__(self, *, db: Database, blobs: Blobs, clock: Clock, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._blobs = blobs
        self._clock = clock
        self._bus = bus

    async def note(self, layer: LayerBlob, reason: str) -> None:
        """Note that a layer is damaged, with an event for each app of it. Idempotent."""
        await self._mark([layer], reason)

    async def mend(self, digest: str, blob: str) -> None:
        """Note that the bytes of a layer are right again, which the caller proved."""
        now = self._clock.now()

        async def body(tx: Tx) -> list[_App]:
            if not await tx.run(_MEND, {"digest": digest, "blob": blob, "now": now}):
                return []
            apps = await tx.all(_App, _APPS, {"digest": digest, "limit": _APPS_TOLD_MAX})
            for app in apps:
                await events.append(
                    tx,
                    account_sid=app.account_sid,
                    type="app.mended",
                    subject_sid=app.app_sid,
                    data={"layer": digest},
                    now=now,
                )
            return apps

        apps = await self._db.write(body)
        if apps:
            _log.info("layer.mended", digest=digest, blob=blob)
            self._ring(apps)

    async def count(self) -> int:
        """Return how many layers are damaged."""
        row = await self._db.one(_Count, _COUNT, {})
        return row.count if row else 0

    async def lost_directory(self) -> bool:
        """Return whether layers should be stored, and not one of a sample of them is there."""
        rows = await self._db.all(LayerBlob, _USED, {"limit": _SAMPLE})
        return await self._blobs.is_lost([row.blob for row in rows])

    async def note_missing(self) -> int:
        """Note every layer that should be stored and whose file is missing; return how many there are."""
        place, missing = "", 0
        while rows := await self._db.all(LayerBlob, _STORED, {"digest": place, "limit": _PAGE}):
            gone = [row for row in rows if await self._blobs.mark(row.blob) is None]
            if gone:
                await self._mark(gone, "the file is missing")
            missing += len(gone)
            place = rows[-1].digest
            beat()
        return missing

    async def _mark(self, layers: Sequence[LayerBlob], reason: str) -> None:
        now = self._clock.now()

        async def body(tx: Tx) -> list[_App]:
            told: list[_App] = []
            for layer in layers:
                if await tx.run(_MARK, {"digest": layer.digest, "blob": layer.blob, "now": now}):
                    for app in await tx.all(_App, _APPS, {"digest": layer.digest, "limit": _APPS_TOLD_MAX}):
                        told.append(app)
                        await events.append(
                            tx,
                            account_sid=app.account_sid,
                            type="app.damaged",
                            subject_sid=app.app_sid,
                            data={"layer": layer.digest, "reason": reason[:_REASON_CHARS_MAX]},
                            now=now,
                        )
            return told

        apps = await self._db.write(body)
        if apps:
            for layer in layers:
                _log.error("layer.damaged", digest=layer.digest, blob=layer.blob, reason=reason)
            self._ring(apps)

    def _ring(self, apps: Sequence[_App]) -> None:
        self._bus.ring({sid for app in apps for sid in (app.account_sid, app.app_sid)})
