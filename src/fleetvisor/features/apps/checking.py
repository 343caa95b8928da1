"""Reads stored layers again and proves them: all in turn, at a bounded rate, and damaged ones whose file changed.

A bit that flips on a disk says so by nothing else. Deliberately moves no bytes: what is damaged waits for an upload, or
for a file that is put back. Spec: ``docs/adr/0002-layers-and-their-removal.md``.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from fleetvisor.blobs.store import BlobDamaged, BlobMark, Blobs
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps.damage import Damage
from fleetvisor.features.apps.model import LayerBlob
from fleetvisor.ground.clock import Clock, later
from fleetvisor.ground.limits import Limits
from fleetvisor.obs.health import beat
from fleetvisor.protocol.measurement import Sha256

CHECK_S: Final = 1.0
_PIECE: Final = 256 << 10
_REST_S: Final = 60.0
_DAMAGED_S: Final = 15.0
_DAMAGED_PAGE: Final = 100
_DAMAGED_BYTES: Final = 256 << 20
_SEEN_MAX: Final = 10_000
_NEXT: Final = """
SELECT digest, blob, size_bytes, 0 AS damaged FROM layers
WHERE stored = 1 AND date_checked < :before AND date_damaged IS NULL
ORDER BY date_checked, digest LIMIT 1"""
_DAMAGED: Final = """
SELECT digest, blob, size_bytes, 1 AS damaged FROM layers WHERE date_damaged IS NOT NULL AND digest > :digest
ORDER BY digest LIMIT :limit"""
_CHECKED: Final = "UPDATE layers SET date_checked = :now WHERE digest = :digest AND blob = :blob"


@dataclass(slots=True)
class _Reading:
    """A layer that is being read, and how far."""

    layer: LayerBlob
    done: int = 0
    hashed: Sha256 = field(default_factory=sha256)


class Checks:
    """The checks of one server."""

    def __init__(self, *, db: Database, blobs: Blobs, damage: Damage, clock: Clock, limits: Limits) -> None:
        """Begin with nothing read."""
        self._db = db
        self._blobs = blobs
        self._damage = damage
        self._clock = clock
        self._limits = limits
        self._reading: _Reading | None = None
        self._rest_until_s = 0.0
        self._damaged_at_s = -_DAMAGED_S
        self._damaged_place = ""
        self._wrong: OrderedDict[str, BlobMark] = OrderedDict()
        self.damaged = 0

    async def step(self) -> None:
        """Do what a second allows."""
        now_s = self._clock.monotonic()
        if now_s - self._damaged_at_s >= _DAMAGED_S:
            self._damaged_at_s = now_s
            await self._look_at_damaged()
            self.damaged = await self._damage.count()
        if self._limits.layer_check_s and now_s >= self._rest_until_s:
            await self._read(round(self._limits.layer_check_bytes_per_s * CHECK_S))

    async def _read(self, budget: int) -> None:
        while budget > 0:
            if self._reading is None:
                before = later(self._clock.now(), -self._limits.layer_check_s)
                found = await self._db.one(LayerBlob, _NEXT, {"before": before})
                if found is None:
                    self._rest_until_s = self._clock.monotonic() + _REST_S
                    return
                self._reading = _Reading(found)
            reading, layer = self._reading, self._reading.layer
            piece = min(_PIECE, layer.size_bytes - reading.done)
            budget -= max(piece, 1)
            try:
                if reading.done == 0:
                    await self._blobs.check_size(layer.blob, layer.size_bytes)
                data = await self._blobs.get_range(layer.blob, reading.done, reading.done + piece)
                reading.hashed.update(data)
                reading.done += piece
                if reading.done < layer.size_bytes:
                    continue
                if reading.hashed.hexdigest() != layer.digest:
                    raise BlobDamaged(f"the bytes of {layer.blob} do not have its SHA-256")
                await self._note_checked(layer)
            except BlobDamaged as error:
                await self._damage.note(layer, str(error))
                self.damaged = await self._damage.count()
            except BaseException:
                self._reading = None  # the file may be another one when it is tried again
                raise
            self._reading = None
            beat()

    async def _note_checked(self, layer: LayerBlob) -> None:
        keys = {"digest": layer.digest, "blob": layer.blob, "now": self._clock.now()}

        async def body(tx: Tx) -> None:
            await tx.run(_CHECKED, keys)

        await self._db.write(body)

    async def _look_at_damaged(self) -> None:
        """Prove damaged layers whose file changed since it was seen to be wrong, a bounded number at one time."""
        rows = await self._db.all(LayerBlob, _DAMAGED, {"digest": self._damaged_place, "limit": _DAMAGED_PAGE})
        self._damaged_place = rows[-1].digest if len(rows) == _DAMAGED_PAGE else ""
        budget = _DAMAGED_BYTES
        for row in rows:
            mark = await self._blobs.mark(row.blob)
            if mark is None or mark.size_bytes != row.size_bytes or self._wrong.get(row.blob) == mark:
                continue
            if await self._blobs.prove(row.blob, digest=row.digest, size_bytes=row.size_bytes):
                await self._damage.mend(row.digest, row.blob)
                self._wrong.pop(row.blob, None)
            else:
                self._wrong[row.blob] = mark
                if len(self._wrong) > _SEEN_MAX:
                    self._wrong.popitem(last=False)
            beat()
            budget -= row.size_bytes
            if budget < 0:
                self._damaged_place = row.digest
                return
