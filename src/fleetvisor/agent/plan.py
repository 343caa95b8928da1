"""How an app's layers become sectors of a slot: pure arithmetic, decided before the first byte is fetched.

Regions may start anywhere and two layers may share a sector, so the plan goes by sectors, not by layers: every
sector that a region touches is written once, from the pieces of layers that lie in it, in ascending order. A
download that stopped after ``done`` sectors goes on with sector number ``done`` of the same plan.

Deliberately fetches and writes nothing.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleetvisor.protocol.native import FlashLayer


class Misfit(Exception):
    """The layers do not fit the slot, or contradict one another."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The device's flash: two halves of a journal, then two slots, each internal flash and then external.

    ``layout``: ``journal 0 | journal 1 | slot 0 | slot 1``. Every size is a whole number of sectors.
    """

    sector_bytes: int = 4096
    unit_bytes: int = 16
    journal_bytes: int = 4096
    internal_bytes: int = 1 << 20
    external_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        """Refuse sizes that are not whole sectors."""
        sizes = (self.journal_bytes, self.internal_bytes, self.external_bytes)
        if self.sector_bytes % self.unit_bytes or any(size % self.sector_bytes for size in sizes):
            raise ValueError("journal and slots are made of whole sectors, and a sector of whole units")

    @property
    def slot_bytes(self) -> int:
        """Return the size of one slot."""
        return self.internal_bytes + self.external_bytes

    @property
    def flash_bytes(self) -> int:
        """Return the size of all the flash."""
        return 2 * self.journal_bytes + 2 * self.slot_bytes

    def slot_start(self, slot: int) -> int:
        """Return the address at which a slot starts."""
        return 2 * self.journal_bytes + slot * self.slot_bytes

    def place(self, layer: FlashLayer) -> int:
        """Return where in the slot a layer's region starts."""
        return layer.region_start + (self.internal_bytes if layer.region == "external" else 0)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes ``start`` to ``end`` of layer number ``layer``, which go to byte ``offset`` of their block."""

    layer: int
    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` neighbouring sectors from slot sector ``sector``, and the pieces that fill them."""

    sector: int
    count: int
    pieces: tuple[Piece, ...]


class Plan:
    """The sectors that an app covers, in ascending order."""

    def __init__(self, layers: Sequence[FlashLayer], geometry: Geometry) -> None:
        """Lay the layers out; raise ``Misfit`` when they leave the slot, their regions, or overlap."""
        if not layers:
            raise Misfit("an app without layers cannot run")
        self._sector_bytes = geometry.sector_bytes
        spans: list[tuple[int, int]] = []
        self._contents: list[tuple[int, int, int]] = []
        for number, layer in enumerate(layers):
            room = geometry.external_bytes if layer.region == "external" else geometry.internal_bytes
            if layer.region_start < 0 or not 0 <= layer.size_bytes <= layer.region_size:
                raise Misfit(f"layer {number} does not fit its region")
            if layer.region_start + layer.region_size > room:
                raise Misfit(f"layer {number} does not fit the {layer.region} flash")
            start = geometry.place(layer)
            spans.append((start, start + layer.region_size))
            self._contents.append((start, start + layer.size_bytes, number))
        spans.sort()
        if any(left[1] > right[0] for left, right in pairwise(spans)):
            raise Misfit("regions overlap")
        self._contents.sort()
        self._runs = _runs(spans, geometry.sector_bytes)
        self._first = [0]
        for run in self._runs:
            self._first.append(self._first[-1] + len(run))
        self.sectors = self._first[-1]
        self.bytes_total = sum(layer.size_bytes for layer in layers)

    def bytes_done(self, done: int) -> int:
        """Return how many of the layers' bytes lie in the first ``done`` sectors."""
        if done >= self.sectors:
            return self.bytes_total
        limit = self._find(done)[1] * self._sector_bytes
        return sum(max(0, min(end, limit) - start) for start, end, _ in self._contents)

    def block(self, done: int, block_bytes: int) -> Block:
        """Return what comes after the first ``done`` sectors.

        At most ``block_bytes`` (but one sector at least) of neighbouring sectors with content, or all the
        neighbouring sectors that only need to be erased.
        """
        run, sector = self._find(done)
        last = self._runs[run].stop
        size = self._sector_bytes
        begin = sector * size
        limit = min(last, sector + max(1, block_bytes // size)) * size
        ahead = [content for content in self._contents if content[1] > begin and content[0] < content[1]]
        if not ahead or ahead[0][0] >= begin + size:
            free = min(last, ahead[0][0] // size if ahead else last)
            return Block(sector, free - sector, ())
        pieces: list[Piece] = []
        for start, end, number in ahead:
            low, high = max(start, begin), min(end, limit)
            if low < high:
                pieces.append(Piece(number, low - start, high - start, low - begin))
        filled = max(piece.offset + piece.end - piece.start for piece in pieces)
        return Block(sector, -(-filled // size), tuple(pieces))

    def _find(self, done: int) -> tuple[int, int]:
        run = bisect_right(self._first, done) - 1
        return run, self._runs[run].start + done - self._first[run]


def _runs(spans: Sequence[tuple[int, int]], sector_bytes: int) -> list[range]:
    """Merge byte spans (ascending, disjoint) into runs of sectors (ascending, disjoint, not touching)."""
    runs: list[range] = []
    for start, end in spans:
        if start == end:
            continue
        first, last = start // sector_bytes, -(-end // sector_bytes)
        if runs and first <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(last, runs[-1].stop))
        else:
            runs.append(range(first, last))
    return runs
