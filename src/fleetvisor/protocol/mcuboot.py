"""An MCUboot image read and proved: its header, its areas of TLVs, and its hash over what MCUboot hashes.

Deliberately decides nothing about trust: whose signature it bears is for the boot loader. The hash of an encrypted
image is over its plain text, which only the device sees, so there it is checked for form. All is read in the byte order
of the magic. Bytes after the areas (the padding and trailer of ``imgtool sign --pad``) are taken.

Spec: MCUboot, "Bootloader" design document (image format).
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from fleetvisor.ground.errors import Invalid

_MAGIC: Final = 0x96F3B83D
_ORDERS: Final[dict[bytes, Literal["little", "big"]]] = {
    _MAGIC.to_bytes(4, "little"): "little",
    _MAGIC.to_bytes(4, "big"): "big",  # ``imgtool sign --endian big``
}
MAGICS: Final = tuple(_ORDERS)

_HEADER: Final = "IIHHIIBBHII"
_HEADER_BYTES: Final = struct.calcsize("<" + _HEADER)
_PAIR: Final = "HH"
_PAIR_BYTES: Final = 4
_PLAIN_AREA: Final = 0x6907
_PROTECTED_AREA: Final = 0x6908
_ENCRYPTED: Final = 0x04 | 0x08
_HASHES: Final = {0x10: "sha256", 0x11: "sha384", 0x12: "sha512"}
_SIGNATURES: Final = {0x20, 0x21, 0x22, 0x23, 0x24}
_PURE_SIGNATURE: Final = 0x25
_SECURITY_COUNTER: Final = 0x50
_TLVS_MAX: Final = 1024
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """What an image states of itself. ``version`` is ``major.minor.revision``, with ``+build`` unless that is 0."""

    version: str
    security_counter: int | None
    signed: bool


def read(source: BinaryIO, size: int) -> Image:
    """Read and prove the image in ``source`` (seekable, ``size`` bytes). Blocks. Raises ``Invalid``."""
    source.seek(0)
    raw = source.read(_HEADER_BYTES)
    if len(raw) < _HEADER_BYTES:
        raise Invalid(f"MCUboot header: the file has {size} bytes, fewer than the header's {_HEADER_BYTES}.")
    order = _ORDERS.get(raw[:4])
    if order is None:
        raise Invalid(f"MCUboot header: the file does not begin with the magic {_MAGIC:#010x}, in either byte order.")
    mark = "<" if order == "little" else ">"
    fields = struct.unpack(mark + _HEADER, raw)
    _, _, header_bytes, protected_bytes, image_bytes, flags, major, minor, revision, build, _ = fields
    if header_bytes < _HEADER_BYTES:
        raise Invalid(f"MCUboot header: ih_hdr_size is {header_bytes}, less than {_HEADER_BYTES}.")
    start = header_bytes + image_bytes
    if start + _PAIR_BYTES > size:
        raise Invalid(
            f"MCUboot image: is truncated: its header and image have {start} bytes and its TLVs come after, "
            f"but the file has {size}."
        )
    protected: list[tuple[int, bytes]] = []
    if protected_bytes:
        protected = _read_area(source, start, size, _PROTECTED_AREA, mark)
        if _area_bytes(protected) != protected_bytes:
            raise Invalid("MCUboot image: the protected TLV area is not as long as ih_protect_tlv_size says.")
    hashed = start + protected_bytes
    tlvs = _read_area(source, hashed, size, _PLAIN_AREA, mark)
    _check_hash(source, hashed, tlvs, encrypted=bool(flags & _ENCRYPTED))
    signed = any(kind in _SIGNATURES for kind, _ in tlvs)
    version = f"{major}.{minor}.{revision}" + (f"+{build}" if build else "")
    return Image(version, _security_counter(protected, order), signed)


def _read_area(source: BinaryIO, start: int, size: int, magic: int, mark: str) -> list[tuple[int, bytes]]:
    """Read the types and values of one area, which must fill it exactly; ``mark`` is ``struct``'s of the byte order."""
    name = "protected TLV area" if magic == _PROTECTED_AREA else "TLV area"
    pair = struct.Struct(mark + _PAIR)
    source.seek(start)
    info = source.read(_PAIR_BYTES)
    if len(info) < _PAIR_BYTES or pair.unpack(info)[0] != magic:
        raise Invalid(f"MCUboot image: at byte {start} there is no {name} (magic {magic:#06x}).")
    total = pair.unpack(info)[1]
    if total < _PAIR_BYTES or start + total > size:
        raise Invalid(f"MCUboot image: the {name} says that it has {total} bytes and does not fit the file.")
    area = source.read(total - _PAIR_BYTES)
    found: list[tuple[int, bytes]] = []
    place = 0
    while place < len(area):
        if place + _PAIR_BYTES > len(area):
            raise Invalid(f"MCUboot image: the {name} ends within a TLV's header.")
        kind, length = pair.unpack_from(area, place)
        if mark == ">" and not kind & 0xFF:
            kind >>= 8  # imgtool writes a type of its own as a byte and a zero, in either byte order
        place += _PAIR_BYTES
        if place + length > len(area):
            raise Invalid(f"MCUboot image: TLV {kind:#04x} has {length} bytes and leaves the {name}.")
        if len(found) >= _TLVS_MAX:
            raise Invalid(f"MCUboot image: the {name} has more than {_TLVS_MAX} TLVs.")
        found.append((kind, area[place : place + length]))
        place += length
    return found


def _area_bytes(tlvs: list[tuple[int, bytes]]) -> int:
    return _PAIR_BYTES + sum(_PAIR_BYTES + len(value) for _, value in tlvs)


def _check_hash(source: BinaryIO, end: int, tlvs: list[tuple[int, bytes]], *, encrypted: bool) -> None:
    """Demand one hash TLV (or a pure signature, which needs none), right over the first ``end`` bytes."""
    hashes = [(_HASHES[kind], value) for kind, value in tlvs if kind in _HASHES]
    if len(hashes) > 1:
        raise Invalid("MCUboot image: there is more than one hash TLV.")
    if not hashes:
        if any(kind == _PURE_SIGNATURE for kind, _ in tlvs):
            return
        raise Invalid("MCUboot image: there is no hash TLV (SHA-256, SHA-384 or SHA-512); sign it with imgtool.")
    name, value = hashes[0]
    running = hashlib.new(name)
    if len(value) != running.digest_size:
        raise Invalid(f"MCUboot image: the {name} TLV has {len(value)} bytes, not {running.digest_size}.")
    if encrypted:
        return
    source.seek(0)
    left = end
    while left:
        piece = source.read(min(left, _CHUNK_BYTES))
        if not piece:
            raise Invalid("MCUboot image: the file ends early.")
        running.update(piece)
        left -= len(piece)
    if running.digest() != value:
        raise Invalid(f"MCUboot image: the {name} TLV is not the hash of header, image and protected TLVs.")


def _security_counter(protected: list[tuple[int, bytes]], order: Literal["little", "big"]) -> int | None:
    counters = [value for kind, value in protected if kind == _SECURITY_COUNTER]
    if not counters:
        return None
    if len(counters) > 1 or len(counters[0]) != 4:
        raise Invalid("MCUboot image: there must be one security counter TLV of 4 bytes at most.")
    return int.from_bytes(counters[0], order)
