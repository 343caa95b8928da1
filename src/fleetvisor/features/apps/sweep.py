"""The sweep: rows of layers that no app uses go when their grace is over, their bytes a grace later.

A row goes by compare-and-set on the renewal that was seen, so an upload that renews it at the same moment wins. A
layer that comes back gets a new row with a new blob name: removing the old bytes can never hurt it. Safe to run on
several nodes at once. Spec: ``docs/adr/0002-layers-and-their-removal.md``.
"""

from typing import Final

from fleetvisor.blobs.store import Blobs
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.limits import Limits

_BATCH: Final = 100


async def sweep(db: Database, blobs: Blobs, clock: Clock, limits: Limits) -> int:
    """Remove what is over; give how many rows and blobs went."""
    now = clock.now()
    before = later(now, -limits.layer_grace_s)
    gone = 0
    for layer in await store.unused(db, before, _BATCH):
        gone += await db.write(_Removal(layer, now))
    for blob in await store.removed(db, before, _BATCH):
        await blobs.delete(blob)
        await db.write(_Forgetting(blob))
        gone += 1
    return gone


class _Removal:
    """A write body: removes one unused layer's row."""

    def __init__(self, layer: store.UnusedLayer, now: Millis) -> None:
        self._layer = layer
        self._now = now

    async def __call__(self, tx: Tx) -> bool:
        return await store.remove_unused(tx, self._layer, self._now)


class _Forgetting:
    """A write body: forgets bytes that are deleted."""

    def __init__(self, blob: str) -> None:
        self._blob = blob

    async def __call__(self, tx: Tx) -> None:
        await store.forget_removed(tx, self._blob)
