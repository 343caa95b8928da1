"""The sweep: rows of layers that no app uses go when their grace is over, their bytes a grace later.

A row goes by compare-and-set on the renewal that was seen, so an upload that renews it at the same moment wins. A
layer that comes back gets a new row with a new blob name: removing the old bytes can never hurt it. Safe to run on
several nodes at once. Spec: ``docs/adr/0002-layers-and-their-removal.md``.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from fleetvisor.blobs.store import BlobFault, Blobs
from fleetvisor.db.database import Body, Database, Tx
from fleetvisor.features.apps import store
from fleetvisor.features.apps.store import RemovedBlob, UnusedLayer
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.limits import Limits
from fleetvisor.obs.health import beat

_BATCH: Final = 100

_log = structlog.get_logger()


async def sweep(db: Database, blobs: Blobs, clock: Clock, limits: Limits) -> int:
    """Remove what is over; return how many rows and blobs went. The next call tries again what cannot be removed."""
    now = clock.now()
    before = later(now, -limits.layer_grace_s)
    gone = 0
    while layers := await store.unused(db, before, _BATCH):
        gone += await db.write(_removal(layers, now))
        beat()
    place = RemovedBlob("", Millis(0))
    while notes := await store.removed(db, place, before, _BATCH):
        beat()
        deleted = [note.blob for note in notes if await _delete(blobs, note.blob)]
        await db.write(_forgetting(deleted))
        gone += len(deleted)
        place = notes[-1]
    return gone


async def _delete(blobs: Blobs, blob: str) -> bool:
    try:
        await blobs.delete(blob)
    except BlobFault as error:
        _log.warning("blob.not_removed", blob=blob, reason=str(error))
        return False
    return True


def _removal(layers: Sequence[UnusedLayer], now: Millis) -> Body[int]:
    async def body(tx: Tx) -> int:
        return sum([await store.remove_unused(tx, layer, now) for layer in layers])

    return body


def _forgetting(blobs: Sequence[str]) -> Body[None]:
    async def body(tx: Tx) -> None:
        for blob in blobs:
            await store.forget_removed(tx, blob)

    return body
