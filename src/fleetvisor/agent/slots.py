"""The two slots and the journal on one flash: what is durable of a device, and what boots.

The active slot is never written, because ``program`` takes no slot: it writes the inactive one, which the state
names. What lies in a slot counts only once ``Armed`` is in the journal, which is written after the slot was verified
as read back. Deliberately decides nothing: ``state`` folds the records, ``core`` chooses them.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.agent import state as states
from fleetvisor.agent.flash import Flash, FlashFault
from fleetvisor.agent.journal import Journal
from fleetvisor.agent.plan import Geometry
from fleetvisor.agent.state import Record, Snapshot, State
from fleetvisor.ground.clock import Entropy
from fleetvisor.protocol.native import FlashLayer

_CHUNK: Final = 64 << 10


class Slots:
    """The durable half of a device."""

    def __init__(self, flash: Flash, geometry: Geometry, entropy: Entropy) -> None:
        """Read the journal, or make it on the first boot. Does not count as a boot yet: keep ``Booted``."""
        if flash.sector_bytes != geometry.sector_bytes or flash.unit_bytes != geometry.unit_bytes:
            raise ValueError("the flash has another geometry")
        self._flash = flash
        self._geometry = geometry
        self._journal = Journal(flash, start=0, half_bytes=geometry.journal_bytes)
        self.state = State(journal=entropy.token(16).hex())
        for payload in self._journal.records:
            try:
                self.state = states.apply(self.state, states.decode(payload))
            except msgspec.DecodeError as fault:
                raise FlashFault(f"the journal holds a record of another version: {fault}") from fault
        self._journal.records.clear()
        if self._journal.empty:
            self.keep(Snapshot(self.state))

    def keep(self, record: Record) -> State:
        """Make ``record`` durable; return the state after it. The state moves only when the record is written."""
        after = states.apply(self.state, record)
        self._journal.append(states.encode(record), lambda: states.encode(Snapshot(after)))
        self.state = after
        return after

    def program(self, sector: int, count: int, data: bytes) -> None:
        """Fill ``count`` sectors of the inactive slot, from slot sector ``sector``, with ``data`` and then 0xff."""
        size = self._geometry.sector_bytes
        base = self._geometry.slot_start(self.state.inactive)
        if (sector + count) * size > self._geometry.slot_bytes:
            raise FlashFault("a download leaves its slot")
        blank = b"\xff" * size
        for number in range(count):
            start = base + (sector + number) * size
            if self._flash.read(start, size) != blank:
                self._flash.erase(start // size)
            self._fill(start, data[number * size : (number + 1) * size])

    def _fill(self, start: int, content: bytes) -> None:
        content = content.rstrip(b"\xff")
        unit = self._geometry.unit_bytes
        if content:
            self._flash.write(start, content.ljust(-(-len(content) // unit) * unit, b"\xff"))

    def verify(self, layers: Sequence[FlashLayer]) -> bool:
        """Return whether the inactive slot, as read back, holds these layers: both hashes of each.

        ``sha256`` is over the layer's bytes; ``measurement`` over its whole region, padded with 0xff.
        """
        base = self._geometry.slot_start(self.state.inactive)
        return all(self._holds(base + self._geometry.place(layer), layer) for layer in layers)

    def _holds(self, start: int, layer: FlashLayer) -> bool:
        hashed = hashlib.sha256()
        content = None if layer.size_bytes else hashed.hexdigest()
        for offset, size in _chunks(layer.size_bytes, layer.region_size):
            hashed.update(self._flash.read(start + offset, size))
            if offset + size == layer.size_bytes:
                content = hashed.hexdigest()
        return content == layer.sha256 and hashed.hexdigest() == layer.measurement

    def read(self, slot: int, layer: FlashLayer) -> bytes:
        """Return a layer's whole region as the slot holds it."""
        return self._flash.read(self._geometry.slot_start(slot) + self._geometry.place(layer), layer.region_size)


def _chunks(content: int, region: int) -> list[tuple[int, int]]:
    """Cut a region into chunks, one of which ends where the content ends."""
    chunks: list[tuple[int, int]] = []
    for first, last in ((0, content), (content, region)):
        chunks += [(place, min(_CHUNK, last - place)) for place in range(first, last, _CHUNK)]
    return chunks
