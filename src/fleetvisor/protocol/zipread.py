"""A reader of hostile zip files: a bundle's, and nothing more general.

The end record is read first, within its bounds, then the central directory, then each local header; the two must
agree, entries must not overlap, and what is not plain (zip64, several disks, encryption, directories, links,
methods other than stored and deflate) is refused. Entries inflate in blocks against a shared budget that believes
no header. Every refusal is ``Invalid`` with a message that names the entry and the rule.

Deliberately not ``zipfile``: that one believes the central directory alone, takes data in front of and behind the
zip, and reads the whole directory before anyone can count (``docs/adr/0003-own-zip-reader.md``). Which names are
allowed is the caller's rule; this module only makes them safe to show. Spec: PKWARE APPNOTE 6.3.10,
``docs/reference/bundle-format.md``.
"""

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final, Protocol

from fleetvisor.ground.errors import Invalid

STORED: Final = 0
DEFLATED: Final = 8
BLOCK_BYTES: Final = 64 << 10

_END: Final = struct.Struct("<4s4H2LH")
_END_MAGIC: Final = b"PK\x05\x06"
_END64_LOCATOR_MAGIC: Final = b"PK\x06\x07"
_END64_LOCATOR_BYTES: Final = 20
_COMMENT_BYTES_MAX: Final = 0xFFFF
# Each place where an end record could begin is looked at; a comment of 64 KiB could hold 16,000 of them.
_END_MAGICS_MAX: Final = 64
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_CENTRAL_MAGIC: Final = b"PK\x01\x02"
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_DESCRIPTOR: Final = struct.Struct("<3L")
_DESCRIPTOR_MAGIC: Final = b"PK\x07\x08"
# What one central header may take with its name, extra field and comment. Ours need about 110 bytes.
_CENTRAL_BYTES_MAX: Final = 2048

_FLAG_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000
_FLAG_STREAMED: Final = 0x0008
_FLAGS_ALLOWED: Final = 0x0002 | 0x0004 | _FLAG_STREAMED | 0x0800
_EXTRA_ZIP64: Final = 0x0001
_DOS_DIRECTORY: Final = 0x10
_NAME_SHOWN_MAX: Final = 80
# The highest version of the format that was ever published is 6.3; a reader that meets a higher one must stop.
_VERSION_MAX: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry whose headers agree. ``data_start`` is where its ``packed_bytes`` begin in the file."""

    name: bytes
    method: int
    flags: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    header_start: int
    data_start: int
    end: int

    @property
    def label(self) -> str:
        """Return the entry as messages name it."""
        return label(self.name)


@dataclass(slots=True)
class Budget:
    """How many bytes the entries of one file may still inflate to, all together."""

    left: int


class _Inflater(Protocol):
    """What ``zlib.decompressobj`` gives."""

    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Central:
    name: bytes
    method: int
    flags: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    header_start: int


def label(name: bytes) -> str:
    """Make an untrusted entry name safe for a message: printable ASCII, quoted, of bounded length."""
    shown = name[:_NAME_SHOWN_MAX].decode("ascii", "backslashreplace")
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)
    return f"Entry '{shown}{'…' if len(name) > _NAME_SHOWN_MAX else ''}'"


def read_entries(source: BinaryIO, *, entries_max: int) -> tuple[Entry, ...]:
    """Read the directory of the zip in ``source`` (seekable) and prove it against each local header.

    In the directory's order. Reads the end of the file (64 KiB), the directory, whose size is bounded by
    ``entries_max``, and the local headers; no entry's data. Raises ``Invalid``.
    """
    size = source.seek(0, 2)
    count, directory_start, directory_bytes = _read_end(source, size, entries_max)
    directory = _read(source, directory_start, directory_bytes)
    entries: list[Entry] = []
    seen: set[bytes] = set()
    for central in _parse_directory(directory, count):
        if central.name in seen:
            raise Invalid(f"{label(central.name)}: stands in the zip twice.")
        seen.add(central.name)
        entries.append(_locate(source, central, directory_start))
    _check_overlaps(entries)
    return tuple(entries)


def inflate(source: BinaryIO, entry: Entry, budget: Budget) -> Iterator[bytes]:
    """Return the entry's content in blocks of at most 64 KiB, charging ``budget`` for each before it is given.

    Ends normally only if size and CRC-32 are as the headers say and the packed bytes are used up exactly; else
    raises ``Invalid``. Never makes more than one block beyond what the header or the budget allows.
    """
    crc = 0
    size = 0
    blocks = _inflated(source, entry) if entry.method == DEFLATED else _blocks(source, entry)
    for block in blocks:
        size += len(block)
        if size > entry.size_bytes:
            raise Invalid(f"{entry.label}: inflates to more than the {entry.size_bytes} bytes its header says.")
        budget.left -= len(block)
        if budget.left < 0:
            raise Invalid(f"{entry.label}: the entries of the bundle inflate to more than is allowed in all.")
        crc = zlib.crc32(block, crc)
        yield block
    if size != entry.size_bytes:
        raise Invalid(f"{entry.label}: inflates to {size} bytes, but its header says {entry.size_bytes}.")
    if crc != entry.crc32:
        raise Invalid(f"{entry.label}: its CRC-32 is wrong.")


def _read_end(source: BinaryIO, size: int, entries_max: int) -> tuple[int, int, int]:
    """Find the end record; return the number of entries, and where the directory starts and how long it is."""
    tail_start = max(0, size - _END.size - _COMMENT_BYTES_MAX)
    tail = _read(source, tail_start, size - tail_start)
    at = _find_end(tail)
    _, disk, directory_disk, count_here, count, length, start, _ = _END.unpack_from(tail, at)
    if 0xFFFF in (disk, directory_disk, count_here, count) or 0xFFFFFFFF in (length, start):
        raise Invalid("The file is a zip64 file, which bundles never are.")
    if tail[max(0, at - _END64_LOCATOR_BYTES) :].startswith(_END64_LOCATOR_MAGIC):
        raise Invalid("The file is a zip64 file, which bundles never are.")
    if disk or directory_disk or count_here != count:
        raise Invalid("The file is one disk of a zip of several.")
    if count > entries_max:
        raise Invalid(f"The zip has {count} entries, more than the {entries_max} allowed.")
    if not count * _CENTRAL.size <= length <= count * _CENTRAL_BYTES_MAX:
        raise Invalid(f"The zip's central directory of {length} bytes does not fit its {count} entries.")
    if start + length != tail_start + at:
        raise Invalid("The zip's central directory does not lie where its end record says.")
    return count, start, length


def _find_end(tail: bytes) -> int:
    """Find the one end record whose comment ends with the file."""
    if tail.count(_END_MAGIC) > _END_MAGICS_MAX:
        raise Invalid("The zip has more than one end record.")
    found: list[int] = []
    at = tail.find(_END_MAGIC)
    while 0 <= at <= len(tail) - _END.size:
        if at + _END.size + int.from_bytes(tail[at + _END.size - 2 : at + _END.size], "little") == len(tail):
            found.append(at)
        at = tail.find(_END_MAGIC, at + 1)
    last = tail.rfind(_END_MAGIC)
    if last < 0:
        raise Invalid("The file is not a zip, or is cut off: no end record stands at its end.")
    if not found:
        raise Invalid("The zip is damaged: it goes on behind its end record, or is cut off.")
    # Two readers could take different ones, and so see different bundles.
    if found != [last]:
        raise Invalid("The zip has more than one end record.")
    return last


def _parse_directory(directory: bytes, count: int) -> Iterator[_Central]:
    at = 0
    for place in range(count):
        if at + _CENTRAL.size > len(directory) or not directory.startswith(_CENTRAL_MAGIC, at):
            raise Invalid(f"The zip's central directory is damaged at its entry {place}.")
        fields = _CENTRAL.unpack_from(directory, at)
        flags, method, crc, packed, size, name_bytes, extra_bytes, comment_bytes = *fields[3:5], *fields[7:13]
        disk, _, attributes, header_start = fields[13:]
        name_start = at + _CENTRAL.size
        extra_start = name_start + name_bytes
        at = extra_start + extra_bytes + comment_bytes
        if at > len(directory):
            raise Invalid(f"The zip's central directory is damaged at its entry {place}.")
        name = directory[name_start:extra_start]
        if fields[2] & 0xFF > _VERSION_MAX:
            raise Invalid(
                f"{label(name)}: needs version {(fields[2] & 0xFF) / 10} of the zip format, which is unknown."
            )
        _check_central(name, flags, method, attributes)
        if disk == 0xFFFF or 0xFFFFFFFF in (packed, size, header_start):
            raise Invalid(f"{label(name)}: needs zip64, which bundles never do.")
        _check_extra(name, directory[extra_start : extra_start + extra_bytes])
        if disk:
            raise Invalid(f"{label(name)}: lies on another disk.")
        if method == STORED and packed != size:
            raise Invalid(f"{label(name)}: is stored, but its two sizes differ.")
        yield _Central(name, method, flags, crc, packed, size, header_start)
    if at != len(directory):
        raise Invalid("The zip's central directory holds more than its entries.")


def _check_central(name: bytes, flags: int, method: int, attributes: int) -> None:
    """Refuse what is not a plain file, plainly packed."""
    if flags & _FLAG_ENCRYPTED:
        raise Invalid(f"{label(name)}: is encrypted.")
    if flags & ~_FLAGS_ALLOWED:
        raise Invalid(f"{label(name)}: has the flags {flags:#06x}, of which some are not supported.")
    if method not in (STORED, DEFLATED):
        raise Invalid(f"{label(name)}: has the compression method {method}; only stored and deflate are supported.")
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK:
        raise Invalid(f"{label(name)}: is a symbolic link.")
    if kind == stat.S_IFDIR or attributes & _DOS_DIRECTORY or name.endswith(b"/"):
        raise Invalid(f"{label(name)}: is a directory.")
    if kind not in (0, stat.S_IFREG):
        raise Invalid(f"{label(name)}: is not a plain file.")


def _locate(source: BinaryIO, central: _Central, directory_start: int) -> Entry:
    """Read the local header of an entry, and its descriptor if it was streamed; both must agree with ``central``."""
    where = label(central.name)
    if central.header_start + _LOCAL.size > directory_start:
        raise Invalid(f"{where}: its local header lies outside the file's data.")
    header = _LOCAL.unpack(_read(source, central.header_start, _LOCAL.size))
    magic, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = header
    if magic != _LOCAL_MAGIC:
        raise Invalid(f"{where}: has no local header where the central directory says.")
    names = _read(source, central.header_start + _LOCAL.size, name_bytes + extra_bytes)
    data_start = central.header_start + _LOCAL.size + name_bytes + extra_bytes
    data_end = data_start + central.packed_bytes
    if data_end > directory_start:
        raise Invalid(f"{where}: its data leaves the file, or is cut off.")
    _check_extra(central.name, names[name_bytes:])
    streamed = bool(central.flags & _FLAG_STREAMED)
    pairs = (
        ("name", names[:name_bytes], central.name),
        ("method", method, central.method),
        ("flags", flags, central.flags),
        ("CRC-32", crc, central.crc32),
        ("compressed size", packed, central.packed_bytes),
        ("size", size, central.size_bytes),
    )
    for what, local, promised in pairs:
        # A streaming writer did not know these yet: they follow the data, and are compared there.
        unknown_yet = streamed and what in ("CRC-32", "compressed size", "size") and local == 0
        if local != promised and not unknown_yet:
            raise Invalid(f"{where}: its local header and the central directory disagree about its {what}.")
    end = _descriptor_end(source, central, data_end, directory_start) if streamed else data_end
    return Entry(
        name=central.name,
        method=central.method,
        flags=central.flags,
        crc32=central.crc32,
        packed_bytes=central.packed_bytes,
        size_bytes=central.size_bytes,
        header_start=central.header_start,
        data_start=data_start,
        end=end,
    )


def _descriptor_end(source: BinaryIO, central: _Central, data_end: int, directory_start: int) -> int:
    """Check the data descriptor behind a streamed entry's data, which may lack its signature; give its end."""
    expected = _DESCRIPTOR.pack(central.crc32, central.packed_bytes, central.size_bytes)
    room = directory_start - data_end
    follows = _read(source, data_end, min(room, len(_DESCRIPTOR_MAGIC) + len(expected)))
    for descriptor in (_DESCRIPTOR_MAGIC + expected, expected):
        if follows.startswith(descriptor):
            return data_end + len(descriptor)
    raise Invalid(f"{label(central.name)}: its data descriptor is missing, or disagrees with the central directory.")


def _check_overlaps(entries: list[Entry]) -> None:
    for one, other in pairwise(sorted(entries, key=lambda entry: entry.header_start)):
        if other.header_start < one.end:
            raise Invalid(f"{other.label}: overlaps {one.label[0].lower()}{one.label[1:]} in the file.")


def _check_extra(name: bytes, extra: bytes) -> None:
    """Refuse zip64 and a field that leaves its place. Some writers pad with a few loose bytes, which mean nothing."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA_ZIP64:
            raise Invalid(f"{label(name)}: has a zip64 field, which bundles never need.")
        at += 4 + length
        if at > len(extra):
            raise Invalid(f"{label(name)}: its extra field is damaged.")


def _blocks(source: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Return the packed bytes of an entry."""
    for at in range(0, entry.packed_bytes, BLOCK_BYTES):
        yield _read(source, entry.data_start + at, min(BLOCK_BYTES, entry.packed_bytes - at))


def _inflated(source: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Return what the packed bytes of an entry inflate to; they must be one deflate stream, whole and alone."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for packed in _blocks(source, entry):
        if inflater.eof:
            raise Invalid(f"{entry.label}: has more data behind the end of its deflate stream.")
        yield from _drained(inflater, packed, entry)
    if not inflater.eof:
        raise Invalid(f"{entry.label}: its deflate stream is cut off.")


def _drained(inflater: _Inflater, packed: bytes, entry: Entry) -> Iterator[bytes]:
    """Return what one piece of packed bytes inflates to, in blocks.

    Each round takes input or gives output, or the stream is damaged. When a stream ends, the inflater leaves what is
    behind its end in ``unconsumed_tail`` or in ``unused_data``, by how full the block was; neither is input any more.
    """
    rest = packed
    full = False
    # A full block may have left output inside the inflater even when all input is taken in.
    while rest or full:
        try:
            block = inflater.decompress(rest, BLOCK_BYTES)
        except zlib.error as error:
            raise Invalid(f"{entry.label}: its deflate stream is damaged.") from error
        if block:
            yield block
        if inflater.eof:
            if inflater.unconsumed_tail or inflater.unused_data:
                raise Invalid(f"{entry.label}: has more data behind the end of its deflate stream.")
            return
        left = inflater.unconsumed_tail
        if rest and not block and len(left) == len(rest):
            raise Invalid(f"{entry.label}: its deflate stream is damaged.")
        full = len(block) == BLOCK_BYTES
        rest = left


def _read(source: BinaryIO, start: int, size: int) -> bytes:
    """Read exactly ``size`` bytes."""
    source.seek(start)
    data = source.read(size)
    if len(data) != size:
        raise Invalid("The zip is cut off.")
    return data
