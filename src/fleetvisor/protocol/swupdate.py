"""A SWUpdate image (``.swu``) read and proved: the cpio archive, sw-description, and the hashes that it states.

Deliberately decides nothing about trust or hardware: ``sw-description.sig`` is for the device's key, and
``hardware-compatibility`` is only shown. An encrypted description is taken as it is. Spec: SWUpdate documentation,
"SWUpdate: syntax and tags"; the cpio formats ``newc`` and ``crc``.
"""

import hashlib
import json
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from fleetvisor.ground.errors import Invalid
from fleetvisor.protocol import libconfig

MAGICS: Final = (b"070701", b"070702")

_DESCRIPTION: Final = "sw-description"
_SIGNATURE: Final = "sw-description.sig"
_TRAILER: Final = "TRAILER!!!"
_HEADER_BYTES: Final = 110
_FIELDS: Final = re.compile(rb"[0-9A-Fa-f]{104}")
_DIGEST: Final = re.compile("[0-9a-fA-F]{64}")
_NAME_BYTES_MAX: Final = 256
_ENTRIES_MAX: Final = 1000
_DESCRIPTION_BYTES_MAX: Final = 256 << 10
_REVISIONS_MAX: Final = 100
_COMMAS_MAX: Final = 20_000
_DEPTH_MAX: Final = libconfig.DEPTH_MAX
_SALTED: Final = b"Salted__"  # with which ``openssl enc`` begins
_ASCII_TEXT: Final = bytes(range(9, 14)) + bytes(range(32, 127))
_CHUNK_BYTES: Final = 1 << 20
_EXACT_BYTES: Final = 256  # so many bytes add up to less than Adler-32's modulus


@dataclass(frozen=True, slots=True)
class Software:
    """What sw-description states; ``hardware_compatibility`` as written, with ``board:`` before a board's own."""

    version: str | None
    hardware_compatibility: tuple[str, ...] = ()
    signed: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    start: int
    size_bytes: int
    checksum: int | None


def read(source: BinaryIO, size: int) -> Software:
    """Read and prove the image in ``source`` (seekable, ``size`` bytes). Blocks. Raises ``Invalid``."""
    entries = list(_entries(source, size))
    if not entries or entries[0].name != _DESCRIPTION:
        first = f"'{entries[0].name}'" if entries else "nothing"
        raise Invalid(f"SWUpdate image: the first entry must be '{_DESCRIPTION}', but it is {first}.")
    if entries[0].size_bytes > _DESCRIPTION_BYTES_MAX:
        raise Invalid(f"Entry '{_DESCRIPTION}': has more than {_DESCRIPTION_BYTES_MAX} bytes.")
    source.seek(entries[0].start)
    software = _describe(source.read(entries[0].size_bytes))
    stated = _stated_hashes(software) if software else {}
    for entry in entries:
        _prove(source, entry, stated.get(entry.name, set()))
    signed = any(entry.name == _SIGNATURE for entry in entries)
    if software is None:
        return Software(None, signed=signed)
    version = software.get("version")
    compatible = tuple(_compatibility(software))
    if len(compatible) > _REVISIONS_MAX or not all(text.isprintable() for text in compatible):
        raise Invalid(
            f"Entry '{_DESCRIPTION}': hardware-compatibility must be {_REVISIONS_MAX} printable texts at most."
        )
    return Software(version if isinstance(version, str) and version else None, compatible, signed)


def _entries(source: BinaryIO, size: int) -> Iterator[_Entry]:
    """Walk the archive up to its trailer."""
    place, names = 0, set[str]()
    while True:
        source.seek(place)
        raw = source.read(_HEADER_BYTES)
        if len(raw) < _HEADER_BYTES:
            raise Invalid(f"SWUpdate image: is truncated: at byte {place} an entry or the trailer is missing.")
        if raw[:6] not in MAGICS or not _FIELDS.fullmatch(raw[6:]):
            raise Invalid(f"SWUpdate image: at byte {place} there is no cpio header (newc or crc).")
        fields = [int(raw[6 + 8 * number : 14 + 8 * number], 16) for number in range(13)]
        size_bytes, name_bytes, checksum = fields[6], fields[11], fields[12]
        name = _name(source.read(min(name_bytes, _NAME_BYTES_MAX + 2)), name_bytes, place)
        if name == _TRAILER:
            return
        if name in names:
            raise Invalid(f"Entry '{name}': is in the archive twice.")
        if len(names) >= _ENTRIES_MAX:
            raise Invalid(f"SWUpdate image: has more than {_ENTRIES_MAX} entries.")
        names.add(name)
        start = _padded(place + _HEADER_BYTES + name_bytes)
        if start + size_bytes > size:
            raise Invalid(f"Entry '{name}': has {size_bytes} bytes and leaves the file; is it truncated?")
        yield _Entry(name, start, size_bytes, checksum if raw[:6] == MAGICS[1] else None)
        place = _padded(start + size_bytes)


def _name(raw: bytes, name_bytes: int, place: int) -> str:
    if not 2 <= name_bytes <= _NAME_BYTES_MAX + 1 or len(raw) != name_bytes or raw.find(b"\0") != name_bytes - 1:
        raise Invalid(f"SWUpdate image: the entry at byte {place} has no name of 1 to {_NAME_BYTES_MAX} bytes.")
    try:
        name = raw[:-1].decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"SWUpdate image: the name of the entry at byte {place} is not valid UTF-8.") from None
    if not name.isprintable():
        raise Invalid(f"SWUpdate image: the name of the entry at byte {place} has unprintable characters.")
    if name.startswith("/") or ".." in name.split("/"):
        raise Invalid(f"Entry '{name}': leads out of the archive.")
    return name


def _padded(place: int) -> int:
    return (place + 3) & ~3


def _describe(raw: bytes) -> dict[str, Any] | None:
    """Read the description's ``software``; ``None`` when it is encrypted.

    What merely reads differently is not encrypted: only what cannot be read at all, and looks like chance, is.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # a letter in a comment, say: nothing that is asked for is lost by it
    text = text.removeprefix("\ufeff")
    try:
        tree = _of_json(text) if text.lstrip().startswith("{") else libconfig.parse(text)
    except (ValueError, RecursionError) as error:
        if _is_encrypted(raw):
            return None
        reason = str(error).split("\n", 1)[0]
        raise Invalid(f"Entry '{_DESCRIPTION}': cannot be read: {reason or type(error).__name__}.") from None
    software = cast("dict[str, object]", tree).get("software") if isinstance(tree, dict) else None
    if not isinstance(software, dict):
        raise Invalid(f"Entry '{_DESCRIPTION}': has no group 'software'.")
    return cast("dict[str, Any]", software)


def _of_json(text: str) -> object:
    """Parse JSON whose time is bounded: what has more commas or brackets than any description is refused unread."""
    if text.count(",") > _COMMAS_MAX or text.count("[") + text.count("{") > libconfig.VALUES_MAX:
        raise ValueError(f"it has more than {_COMMAS_MAX} values, or {libconfig.VALUES_MAX} objects and arrays")
    return json.loads(text)


def _is_encrypted(raw: bytes) -> bool:
    """Return whether these are the bytes of a cipher: of those, 60 in 100 are no ASCII text; of a text, few are."""
    if raw.startswith(_SALTED):
        return True
    strange = len(raw.translate(None, _ASCII_TEXT))
    return strange * 4 >= len(raw) and b"software" not in raw and not raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE))


def _stated_hashes(software: dict[str, Any]) -> dict[str, set[str]]:
    """Return each ``filename`` with every ``sha256`` beside one, wherever boards and modes nest them."""
    found: dict[str, set[str]] = {}
    ahead: list[tuple[object, int]] = [(software, 0)]
    for _ in range(libconfig.VALUES_MAX):
        if not ahead:
            return found
        value, depth = ahead.pop()
        if depth > _DEPTH_MAX:
            raise Invalid(f"Entry '{_DESCRIPTION}': is nested deeper than {_DEPTH_MAX} levels.")
        if isinstance(value, dict):
            group = cast("dict[str, object]", value)
            name, digest = group.get("filename"), group.get("sha256")
            if isinstance(name, str) and isinstance(digest, str) and _DIGEST.fullmatch(digest):
                found.setdefault(name, set()).add(digest.lower())
            inner = list(group.values())
        else:
            inner = cast("list[object]", value)
        ahead += [(one, depth + 1) for one in inner if isinstance(one, dict | list)]
    raise Invalid(f"Entry '{_DESCRIPTION}': has more than {libconfig.VALUES_MAX} groups and lists.")


def _compatibility(software: dict[str, Any]) -> Iterator[str]:
    yield from _texts(software.get("hardware-compatibility"))
    for board, group in software.items():
        if isinstance(group, dict):
            for text in _texts(cast("dict[str, object]", group).get("hardware-compatibility")):
                yield f"{board}:{text}"


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [item for item in cast("list[object]", value) if isinstance(item, str)]


def _prove(source: BinaryIO, entry: _Entry, digests: set[str]) -> None:
    """Check an entry against the archive's checksum and the description's hashes, where there are any."""
    if not digests and entry.checksum is None:
        return
    source.seek(entry.start)
    running, total, left = hashlib.sha256(), 0, entry.size_bytes
    while left:
        piece = source.read(min(left, _CHUNK_BYTES))
        if not piece:
            raise Invalid(f"Entry '{entry.name}': the file ends early.")
        left -= len(piece)
        if digests:
            running.update(piece)
        if entry.checksum is not None:
            total += _sum(piece)
    if entry.checksum is not None and total & 0xFFFFFFFF != entry.checksum:
        raise Invalid(f"Entry '{entry.name}': its bytes do not add up to the checksum of its cpio header.")
    if digests and digests != {running.hexdigest()}:
        raise Invalid(f"Entry '{entry.name}': its SHA-256 is not the one that '{_DESCRIPTION}' states.")


def _sum(piece: bytes) -> int:
    """Add up bytes; Adler-32's lower half is their exact sum for short pieces, at a fiftieth of ``sum``'s cost."""
    view = memoryview(piece)
    return sum(zlib.adler32(view[at : at + _EXACT_BYTES], 0) & 0xFFFF for at in range(0, len(piece), _EXACT_BYTES))
