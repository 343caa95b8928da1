"""Layer bytes in memory: a bounded cache, because devices of a fleet ask for the same bytes at the same time.

A layer is read once however many ask for it at that moment. Deliberately no rights and no HTTP: ``channel/download``
asks first whether a device may have the layer, for bytes in memory too.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from typing import Final

from fleetvisor.blobs.store import Blobs
from fleetvisor.features.apps.model import LayerBlob

CHUNK_BYTES: Final = 256 << 10


class LayerCache:
    """The layers used last, by blob name; room is taken before reading, so reads under way are bounded as well."""

    def __init__(self, *, blobs: Blobs, bytes_max: int) -> None:
        """Start empty."""
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._reads: dict[str, asyncio.Future[None]] = {}

    @property
    def size_bytes(self) -> int:
        """How many bytes are kept or being read."""
        return self._bytes

    def find(self, layer: LayerBlob) -> bytes | None:
        """Give the whole layer if it is in memory."""
        data = self._kept.get(layer.blob)
        if data is not None:
            self._kept.move_to_end(layer.blob)
        return data

    async def load(self, layer: LayerBlob) -> bytes | None:
        """Give the whole layer, read now if need be; ``None`` when there is no room for it."""
        while True:
            data = self.find(layer)
            if data is not None:
                return data
            read = self._reads.get(layer.blob)
            if read is None:
                return await self._read(layer) if self._make_room(layer.size_bytes) else None
            await asyncio.shield(read)

    async def chunks(self, layer: LayerBlob, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Give the bytes from ``start`` to before ``end``, in pieces, from memory or as they are read.

        Copies: the HTTP server takes a memoryview byte by byte, at ten times the cost.
        """
        whole = await self.load(layer)
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
            data = await self._blobs.get_range(layer.blob, 0, layer.size_bytes)
            self._kept[layer.blob] = data
            kept = True
            return data
        finally:
            if not kept:
                self._bytes -= layer.size_bytes
            del self._reads[layer.blob]
            ended.set_result(None)
