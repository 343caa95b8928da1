"""Firmware files as a compiler leaves them, turned into the flat image that a layer holds.

An ``.elf`` is laid out by the physical addresses of its loadable segments from the start of ROM on, with gaps filled
with ``0xff`` as erased flash reads; a ``.bin`` is taken as it is. Deliberately reads no Intel HEX and relocates
nothing: an image linked for another address is refused, not moved. Spec: ELF (System V ABI), the memory map of the
Microvisor API reference, section 6.
"""

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from fleetvisor.ground.errors import Invalid

ROM_START: Final = 0x08000000
ROM_BYTES: Final = 1 << 20
_MAGIC: Final = b"\x7fELF"
_SEGMENTS_MAX: Final = 256
_SECTIONS_MAX: Final = 2048
_HEADER: Final = struct.Struct("<16s2H5L6H")
_TABLES_AT: Final = 28
_SIZES_AT: Final = 40
_ENTRY: Final = struct.Struct("<8L")
_SECTION: Final = struct.Struct("<10L")
_BITS_32_LITTLE: Final = b"\x01\x01"
_ARM: Final = 40
_PROGRAM: Final = 2
_LOADED: Final = 1
_ALLOCATED: Final = 0x2
_NULL: Final = 0
_NOBITS: Final = 8


@dataclass(frozen=True, slots=True)
class _Segment:
    """Bytes to lie at a physical address."""

    start: int
    data: memoryview

    @property
    def end(self) -> int:
        return self.start + len(self.data)


def load_firmware(path: Path, *, start: int = 0, size: int = ROM_BYTES) -> bytes:
    """Read firmware from an ``.elf`` or ``.bin`` file: the flat image for a region of ``size`` at ROM offset ``start``.

    What is an ELF file is told by its content, not by its name. Raises ``Invalid``, naming the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: cannot be read: {error.strerror}.") from error
    if not data:
        raise Invalid(f"{path}: is empty.")
    if data.startswith(_MAGIC):
        try:
            return flatten(data, start=start, size=size)
        except Invalid as error:
            raise Invalid(f"{path}: {error.detail}") from error
    match path.suffix.lower():
        case ".elf" | ".axf" | ".out":
            raise Invalid(f"{path}: is not an ELF file, though its name says so.")
        case ".hex" | ".srec" | ".s19":
            raise Invalid(f"{path}: is not taken in this format; convert it: objcopy -O binary.")
        case ".bin":
            if len(data) > size:
                raise Invalid(f"{path}: has {len(data)} bytes and does not fit its region of {size}.")
            return data
        case _:
            raise Invalid(f"{path}: is neither an ELF file nor named .bin for a flat image.")


def flatten(elf: bytes, *, start: int = 0, size: int = ROM_BYTES) -> bytes:
    """Lay out an ELF program for ROM: the image begins at ROM offset ``start`` and ends with the last byte loaded.

    Raises ``Invalid`` for what is not a 32-bit little-endian ARM program, and for segments that overlap or lie
    outside the region.
    """
    region_start = ROM_START + start
    region_end = region_start + size
    segments = sorted(_segments(elf), key=lambda segment: segment.start)
    if not segments:
        raise Invalid("The ELF file has no loadable bytes.")
    for segment in segments:
        if segment.start < region_start or segment.end > region_end:
            raise Invalid(
                f"The ELF file loads {segment.start:#010x} to {segment.end:#010x}, "
                f"outside its region {region_start:#010x} to {region_end:#010x}."
            )
    for one, other in pairwise(segments):
        if other.start < one.end:
            raise Invalid(f"The ELF file loads {other.start:#010x} twice.")
    image = bytearray(b"\xff") * (segments[-1].end - region_start)
    for segment in segments:
        image[segment.start - region_start : segment.end - region_start] = segment.data
    return bytes(image)


def _segments(elf: bytes) -> list[_Segment]:
    """Return the loadable segments that bring bytes (``.bss`` brings none), cut to what is content.

    A linker may let a segment begin at the file's own header, to save a page. Where there are sections, a segment is
    cut to those that are loaded; where they were stripped, to what header and program headers leave.
    """
    if len(elf) < _HEADER.size or elf[:4] != _MAGIC:
        raise Invalid("The ELF file is damaged.")
    ident, kind, machine, *_ = _HEADER.unpack_from(elf)
    if (ident[4:6], machine, kind) != (_BITS_32_LITTLE, _ARM, _PROGRAM):
        raise Invalid("The ELF file is not a linked program for a 32-bit little-endian ARM.")
    table, sections = struct.unpack_from("<2L", elf, _TABLES_AT)
    header_bytes, entry_bytes, count, section_bytes, section_count = struct.unpack_from("<5H", elf, _SIZES_AT)
    if count > _SEGMENTS_MAX:
        raise Invalid(f"The ELF file has {count} segments, more than any firmware.")
    if section_count > _SECTIONS_MAX:
        raise Invalid(f"The ELF file has {section_count} sections, more than any firmware.")
    if count and (entry_bytes != _ENTRY.size or table + count * entry_bytes > len(elf)):
        raise Invalid("The ELF file is damaged: its program headers leave it.")
    section_count = section_count if sections else 0
    if section_count and (section_bytes != _SECTION.size or sections + section_count * section_bytes > len(elf)):
        raise Invalid("The ELF file is damaged: its section headers leave it.")
    contents = _contents(elf, sections, section_count)
    own = [(0, max(header_bytes, _HEADER.size)), (table, table + count * entry_bytes)]
    found: list[_Segment] = []
    for place in range(count):
        kind, offset, _, address, file_bytes, *_ = _ENTRY.unpack_from(elf, table + place * entry_bytes)
        if kind != _LOADED or not file_bytes:
            continue
        if offset + file_bytes > len(elf):
            raise Invalid("The ELF file is cut off.")
        start, end = _cut(offset, offset + file_bytes, contents, own)
        if start < end:
            found.append(_Segment(address + start - offset, memoryview(elf)[start:end]))
    return found


def _contents(elf: bytes, sections: int, count: int) -> list[tuple[int, int]]:
    """Return where in the file the sections lie that bring bytes into memory: apart from one another, in order."""
    found: list[tuple[int, int]] = []
    for place in range(count):
        _, kind, flags, _, offset, size, *_ = _SECTION.unpack_from(elf, sections + place * _SECTION.size)
        if flags & _ALLOCATED and kind not in (_NULL, _NOBITS) and size:
            found.append((offset, offset + size))
    apart: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart


def _cut(start: int, end: int, contents: list[tuple[int, int]], own: list[tuple[int, int]]) -> tuple[int, int]:
    """Cut a segment's place in the file to the sections in it; without any section, to what follows ``own``."""
    if contents:
        first = bisect_right(contents, start, key=lambda one: one[1])
        behind = bisect_left(contents, end, key=lambda one: one[0])
        return (max(start, contents[first][0]), min(end, contents[behind - 1][1])) if first < behind else (end, end)
    for own_start, own_end in sorted(own):
        if own_start <= start < own_end:
            start = own_end
    return start, end
