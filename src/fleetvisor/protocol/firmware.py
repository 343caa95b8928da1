"""Firmware files as a compiler leaves them, turned into the flat image that a layer holds.

An ``.elf`` is laid out by the physical addresses of its loadable segments from the start of ROM on, with gaps filled
with ``0xff`` as erased flash reads; a ``.bin`` is taken as it is. Deliberately reads no Intel HEX and relocates
nothing: an image linked for another address is refused, not moved. Spec: ELF (System V ABI), the memory map of the
Microvisor API reference, section 6.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from fleetvisor.ground.errors import Invalid

ROM_START: Final = 0x08000000
ROM_BYTES: Final = 1 << 20
_MAGIC: Final = b"\x7fELF"
_SEGMENTS_MAX: Final = 256
# What the ELF reader lets through besides its own errors when a file is damaged.
_DAMAGED: Final = (ELFError, ConstructError, LookupError, ValueError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class _Segment:
    """Bytes to lie at a physical address."""

    start: int
    data: bytes

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


def _segments(elf: bytes) -> Iterator[_Segment]:
    """Give the loadable segments that bring bytes (``.bss`` brings none)."""
    try:
        file = ELFFile(io.BytesIO(elf))
        kind = (file.elfclass, file.little_endian, file["e_machine"], file["e_type"])
        if kind != (32, True, "EM_ARM", "ET_EXEC"):
            raise Invalid("The ELF file is not a linked program for a 32-bit little-endian ARM.")
        count = file.num_segments()
        if count > _SEGMENTS_MAX:
            raise Invalid(f"The ELF file has {count} segments, more than any firmware.")
        for place in range(count):
            segment = file.get_segment(place)
            if segment["p_type"] != "PT_LOAD" or not segment["p_filesz"]:
                continue
            data = segment.data()
            if len(data) != segment["p_filesz"]:
                raise Invalid("The ELF file is cut off.")
            yield _Segment(int(segment["p_paddr"]), data)
    except _DAMAGED as error:
        raise Invalid("The ELF file is damaged.") from error
