"""The device's journal: records appended to one of two halves of flash, safe against a power cut at any operation.

A half is a header and then records. A record is its length, its payload and a CRC-32 over both, padded to whole
units. The half with the highest valid header is the one in force; its first record is a snapshot of everything
before. When it is full, or its end is torn, the other half is erased, the snapshot is written there, and *last* its
header. So a half never counts before it is whole, because its header is what makes it count; and a record
is there or not, because its CRC is written with it.

Deliberately knows nothing of what the payloads mean: ``slots`` does.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Final

from fleetvisor.agent.flash import Flash, FlashFault

_MAGIC: Final = 0x464C5631
_HEADER: Final = struct.Struct("<III")
_LENGTH: Final = struct.Struct("<H")
_CRC: Final = struct.Struct("<I")
_LENGTH_MAX: Final = 0xFFFE


class Journal:
    """The records in force, oldest first, and how to append one."""

    def __init__(self, flash: Flash, *, start: int, half_bytes: int) -> None:
        """Read the journal that lies in the two halves from ``start``; both halves are whole sectors."""
        if start % flash.sector_bytes or half_bytes % flash.sector_bytes or half_bytes <= 0:
            raise ValueError("the halves of a journal are made of whole sectors")
        self._flash = flash
        self._start = start
        self._half_bytes = half_bytes
        self._header_bytes = self._padded(_HEADER.size)
        self.records: list[bytes] = []
        self._half, self._generation = self._newest()
        self._end = 0
        self._torn = True
        if self._generation:
            self._load()

    @property
    def empty(self) -> bool:
        """Return whether no journal was ever completed here: a factory-fresh device."""
        return not self._generation

    def append(self, payload: bytes, snapshot: Callable[[], bytes]) -> None:
        """Make ``payload`` durable, or, when there is no room for it, what ``snapshot`` gives.

        ``snapshot`` must hold the effect of every record so far *and of this one*. Raises ``FlashFault``.
        """
        record = self._frame(payload)
        self._flash.sync()
        if self._torn or self._end + len(record) > self._half_bytes:
            self._move(snapshot())
        else:
            place = self._base(self._half) + self._end
            self._torn = True
            self._flash.write(place, record)
            self._torn = False
            self._end += len(record)
        self._flash.sync()

    def _move(self, snapshot: bytes) -> None:
        record = self._frame(snapshot)
        if self._header_bytes + len(record) > self._half_bytes:
            raise FlashFault(f"a snapshot of {len(snapshot)} bytes does not fit half a journal")
        other = 1 - self._half
        base = self._base(other)
        first = base // self._flash.sector_bytes
        for sector in range(first, first + self._half_bytes // self._flash.sector_bytes):
            self._flash.erase(sector)
        self._flash.write(base + self._header_bytes, record)
        self._flash.sync()
        self._flash.write(base, self._header(self._generation + 1))
        self._half, self._generation = other, self._generation + 1
        self._end = self._header_bytes + len(record)
        self._torn = False

    def _base(self, half: int) -> int:
        return self._start + half * self._half_bytes

    def _padded(self, size: int) -> int:
        unit = self._flash.unit_bytes
        return -(-size // unit) * unit

    def _frame(self, payload: bytes) -> bytes:
        if len(payload) > _LENGTH_MAX:
            raise FlashFault(f"a record of {len(payload)} bytes is too long for a journal")
        body = _LENGTH.pack(len(payload)) + payload
        record = body + _CRC.pack(zlib.crc32(body))
        return record.ljust(self._padded(len(record)), b"\xff")

    def _header(self, generation: int) -> bytes:
        crc = zlib.crc32(struct.pack("<II", _MAGIC, generation))
        return _HEADER.pack(_MAGIC, generation, crc).ljust(self._header_bytes, b"\xff")

    def _newest(self) -> tuple[int, int]:
        """Return the half in force and its generation; generation 0 when there is none."""
        found = (1, 0)
        for half in (0, 1):
            header = self._flash.read(self._base(half), self._header_bytes)
            generation = _HEADER.unpack_from(header)[1]
            if header == self._header(generation) and generation > found[1]:
                found = (half, generation)
        return found

    def _load(self) -> None:
        data = self._flash.read(self._base(self._half), self._half_bytes)
        place = self._header_bytes
        while (payload := _payload_at(data, place)) is not None:
            self.records.append(payload)
            place += self._padded(_LENGTH.size + len(payload) + _CRC.size)
        self._end = place
        self._torn = data[place:] != b"\xff" * (len(data) - place)


def _payload_at(data: bytes, place: int) -> bytes | None:
    """Return the payload of the whole record at ``place``, or ``None`` if there is none."""
    if place + _LENGTH.size > len(data):
        return None
    (length,) = _LENGTH.unpack_from(data, place)
    end = place + _LENGTH.size + length
    if length > _LENGTH_MAX or end + _CRC.size > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, end)
    return data[place + _LENGTH.size : end] if crc == zlib.crc32(data[place:end]) else None
