"""Layer bytes in memory: a bounded cache, because devices of a fleet ask for the same bytes at the same time.

A layer is read once however many ask for it at that moment. No byte is given out unproved: what is read whole is
hashed as it enters the cache; a layer that is too large for it is read and hashed before its first piece, once in a
process, and again when its file was written anew. Deliberately no rights and no HTTP: ``channel/download`` asks first
whether a device may have the layer, for bytes in memory too.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Final

from fleetvisor.blobs.store import BlobDamaged, BlobMark, Blobs
from fleetvisor.features.apps.damage import Damage, Damaged
from fleetvisor.features.apps.model import LayerBlob

CHUNK_BYTES: Final = 32 << 10
_PROVED_MAX: Final = 10_000


class LayerCache:
    """The layers used last, by blob name; room is taken before reading, so reads under way are bounded as well."""

    def __init__(self, *, blobs: Blobs, damage: Damage, bytes_max: int) -> None:
        """Start empty; ``damage`` is told what is found damaged."""
        self._blobs = blobs
        self._damage = damage
        self._proved: OrderedDict[str, BlobMark] = OrderedDict()
        self._proofs: dict[str, asyncio.Future[None]] = {}
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._reads: dict[str, asyncio.Future[None]] = {}

    @property
    def size_bytes(self) -> int:
        """How many bytes are kept or being read."""
        return self._bytes

    def find(self, layer: LayerBlob) -> bytes | None:
        """Return the whole layer if it is in memory."""
        data = self._kept.get(layer.blob)
        if data is not None:
            self._kept.move_to_end(layer.blob)
        return data

    async def load(self, layer: LayerBlob) -> bytes | None:
        """Return the whole layer, read now if need be; ``None`` when there is no room for it."""
        while True:
            data = self.find(layer)
            if data is not None:
                return data
            read = self._reads.get(layer.blob)
            if read is None:
                return await self._read(layer) if self._make_room(layer.size_bytes) else None
            await asyncio.shield(read)

    async def chunks(self, layer: LayerBlob, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Return the bytes from ``start`` to before ``end``, in pieces, from memory or as they are read.

        Copies: the HTTP server takes a memoryview byte by byte, at ten times the cost.
        """
        whole = await self.load(layer)
        if whole is None:
            await self._prove(layer)
        for place in range(start, end, CHUNK_BYTES):
            stop = min(place + CHUNK_BYTES, end)
            yield await self._blobs.get_range(layer.blob, place, stop) if whole is None else whole[place:stop]

    def _make_room(self, size: int) -> bool:
        if size > self._bytes_max // 4:  # one large file may not push out what a whole fleet asks for
            return False
        while self._bytes + size > self._bytes_max and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
        return self._bytes + size <= self._bytes_max

    async def _read(self, layer: LayerBlob) -> bytes:
        """Read and keep a layer for which room was made. Whoever waits for this read looks again when it ended."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reads[layer.blob] = ended
        self._bytes += layer.size_bytes
        kept = False
        try:
            data = await self._whole(layer)
            self._kept[layer.blob] = data
            kept = True
            return data
        finally:
            if not kept:
                self._bytes -= layer.size_bytes
            del self._reads[layer.blob]
            ended.set_result(None)

    async def _whole(self, layer: LayerBlob) -> bytes:
        try:
            return await self._blobs.get_whole(layer.blob, digest=layer.digest, size_bytes=layer.size_bytes)
        except BlobDamaged as error:
            await self._damage.note(layer, str(error))
            raise Damaged from error

    async def _prove(self, layer: LayerBlob) -> None:
        """Prove a layer that is not kept, unless its file is the one that was proved. Raises ``Damaged``."""
        while True:
            mark = await self._blobs.mark(layer.blob)
            if mark is not None and self._proved.get(layer.blob) == mark:
                return
            proof = self._proofs.get(layer.blob)
            if proof is None:
                break
            await asyncio.shield(proof)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proofs[layer.blob] = ended
        try:
            await self._blobs.check_size(layer.blob, layer.size_bytes)
            good = await self._blobs.prove(layer.blob, digest=layer.digest, size_bytes=layer.size_bytes)
            if not good or mark is None:
                raise BlobDamaged(f"the bytes of {layer.blob} do not have its SHA-256")
        except BlobDamaged as error:
            await self._damage.note(layer, str(error))
            raise Damaged from error
        finally:
            del self._proofs[layer.blob]
            ended.set_result(None)
        self._proved[layer.blob] = mark
        if len(self._proved) > _PROVED_MAX:
            self._proved.popitem(last=False)
