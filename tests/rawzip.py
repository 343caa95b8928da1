"""Zip files written byte by byte, so that each header can lie. For tests only; nothing here is checked."""

import functools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

STORED = 0
DEFLATED = 8
STREAMED = 0x0008
UTF8 = 0x0800


def deflate(data: bytes, level: int = 9) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class Raw:
    """One entry. ``local`` and ``central`` replace header fields: flags, method, crc, packed, size, name, offset."""

    name: bytes
    content: bytes
    method: int = DEFLATED
    flags: int = 0
    data: bytes | None = None
    descriptor: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    local_extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    attributes: int = 0o100644 << 16
    system: int = 3
    disk: int = 0
    gap: bytes = b""

    @functools.cached_property
    def packed(self) -> bytes:
        if self.data is not None:
            return self.data
        return self.content if self.method == STORED else deflate(self.content)

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.content),
            "packed": len(self.packed),
            "size": len(self.content),
        }


def streamed(entry_name: bytes, content: bytes, *, signature: bool = True, method: int = DEFLATED, **more: Any) -> Raw:
    """Make an entry as a writer to a pipe leaves it: zeros in the local header, a descriptor behind the data."""
    plain = Raw(entry_name, content, method)
    numbers = struct.pack("<3L", zlib.crc32(content), len(plain.packed), len(content))
    options: dict[str, Any] = {
        "flags": STREAMED,
        "local": {"crc": 0, "packed": 0, "size": 0},
        "descriptor": (b"PK\x07\x08" if signature else b"") + numbers,
    } | more
    return Raw(entry_name, content, method, **options)


def local_header(entry: Raw) -> bytes:
    f = entry.fields | entry.local
    return (
        struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04",
            20,
            f["flags"],
            f["method"],
            0,
            33,
            f["crc"],
            f["packed"],
            f["size"],
            len(f["name"]),
            len(entry.local_extra),
        )
        + f["name"]
        + entry.local_extra
    )


def central_header(entry: Raw, offset: int) -> bytes:
    f = {"offset": offset} | entry.fields | entry.central
    return (
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02",
            entry.system << 8 | 20,
            20,
            f["flags"],
            f["method"],
            0,
            33,
            f["crc"],
            f["packed"],
            f["size"],
            len(f["name"]),
            len(entry.central_extra),
            len(entry.comment),
            entry.disk,
            0,
            entry.attributes,
            f["offset"],
        )
        + f["name"]
        + entry.central_extra
        + entry.comment
    )


def write(
    entries: Sequence[Raw],
    *,
    comment: bytes = b"",
    prefix: bytes = b"",
    suffix: bytes = b"",
    before_end: bytes = b"",
    end: dict[str, int] | None = None,
) -> bytes:
    """Write the entries in order, the directory, and the end record, whose fields ``end`` replaces."""
    out = bytearray(prefix)
    directory = bytearray()
    for entry in entries:
        out += entry.gap
        directory += central_header(entry, len(out))
        out += local_header(entry) + entry.packed + entry.descriptor
    fields = {
        "disk": 0,
        "directory_disk": 0,
        "count_here": len(entries),
        "count": len(entries),
        "length": len(directory),
        "start": len(out),
        "comment": len(comment),
    } | (end or {})
    return bytes(
        out + directory + before_end + struct.pack("<4s4H2LH", b"PK\x05\x06", *fields.values()) + comment + suffix
    )
