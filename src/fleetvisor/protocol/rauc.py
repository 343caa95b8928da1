"""A RAUC bundle recognised by its end, and what its manifest states read from the signature's content.

A bundle ends with a CMS structure and its size. In the formats ``verity`` and ``crypt`` the manifest is signed inside
it; in ``plain`` it lies in the squashfs, which is not read here. Only the few elements and keys that are needed are
read, by hand: what surrounds them costs no time, whatever it is. Deliberately decides nothing about trust: whose
signature it bears is for the device's keyring. Spec: RAUC reference, "Bundle Formats" and "Manifest"; RFC 5652; GLib,
"Key-value file parser".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from fleetvisor.ground.errors import Invalid

SQUASHFS_MAGIC: Final = b"hsqs"
#: A bundle that is encrypted for 260 recipients has a CMS structure of more than 64 KiB.
SIGNATURE_BYTES_MAX: Final = 1 << 20

_SIZE_BYTES: Final = 8
_BLOCK_BYTES: Final = 4096
_SIGNED: Final = bytes.fromhex("06092a864886f70d010702")
_ENVELOPED: Final = bytes.fromhex("06092a864886f70d010703")
_OID_WITHIN: Final = 24
_MANIFEST_BYTES_MAX: Final = 256 << 10
_WANTED: Final = {("bundle", "format"), ("bundle", "verity-size"), ("update", "compatible"), ("update", "version")}
_GROUPS: Final = {group for group, _ in _WANTED}
_LINES_MAX: Final = 10_000
_PIECES_MAX: Final = 1000
_ESCAPES: Final = {"\\s": " ", "\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\"}
_ESCAPE: Final = re.compile(r"\\[sntr\\]")
_VALUE_CHARS_MAX: Final = 1000

_OCTETS: Final = 0x04
_CONSTRUCTED_OCTETS: Final = 0x24
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_EXPLICIT: Final = 0xA0
_OTHERS: Final = (0xA0, 0xA1)  # certificates and revocation lists, between content and signers

Format = Literal["plain", "verity", "crypt", "encrypted"]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle states of itself; ``None`` where only the device can read it."""

    format: Format
    compatible: str | None = None
    version: str | None = None


def is_rauc(source: BinaryIO, size: int) -> bool:
    """Return whether the file ends as a RAUC bundle does: a CMS structure, signed or enveloped, and its size."""
    length = _signature_bytes(source, size)
    if length is None:
        return False
    source.seek(size - _SIZE_BYTES - length)
    head = source.read(min(length, _OID_WITHIN))
    return head[:1] == b"\x30" and (_SIGNED in head or _ENVELOPED in head)


def read(source: BinaryIO, size: int) -> Bundle:
    """Read the bundle in ``source`` (seekable, ``size`` bytes). Raises ``Invalid``."""
    length = _signature_bytes(source, size)
    if length is None:
        raise Invalid("RAUC bundle: does not end with a signature and its size in 8 bytes.")
    if length > SIGNATURE_BYTES_MAX:
        raise Invalid(f"RAUC bundle: its signature has {length} bytes, more than the {SIGNATURE_BYTES_MAX} allowed.")
    source.seek(size - _SIZE_BYTES - length)
    try:
        signers, manifest = _signed(source.read(length))
    except _Malformed as error:
        raise Invalid(f"RAUC bundle: its signature is malformed: {error}.") from None
    if signers is None:
        return Bundle("encrypted")
    if not signers:
        raise Invalid("RAUC bundle: its signature has no signer.")
    if manifest is None:
        _check_squashfs(source)
        return Bundle("plain")
    return _read_manifest(manifest, source, size - _SIZE_BYTES - length)


def _signature_bytes(source: BinaryIO, size: int) -> int | None:
    if size <= _SIZE_BYTES:
        return None
    source.seek(size - _SIZE_BYTES)
    length = int.from_bytes(source.read(_SIZE_BYTES), "big")
    return length if 0 < length <= size - _SIZE_BYTES else None


class _Malformed(Exception):
    """The structure is none that a bundle may end with."""


@dataclass(frozen=True, slots=True)
class _Element:
    """One element: its tag, and where its content begins and ends. Behind an end that is not stated lie two zeros."""

    tag: int
    start: int
    end: int
    after: int


def _element(raw: bytes, at: int, end: int, what: str, budget: list[int]) -> _Element:
    """Read the element at ``at``, which must end by ``end``.

    An element whose length is not stated (BER) is walked through, piece by piece; ``budget`` is how many pieces may be.
    """
    if at + 2 > end:
        raise _Malformed(f"{what} is missing")
    tag, first = raw[at], raw[at + 1]
    start = at + 2
    if tag & 0x1F == 0x1F:
        raise _Malformed(f"{what} has a tag of several bytes")
    if first == 0x80:
        return _unstated(raw, _Element(tag, start, end, end), what, budget)
    if first > 0x80:
        count = first & 0x7F
        if count > 4 or start + count > end:
            raise _Malformed(f"the length of {what} is malformed")
        first, start = int.from_bytes(raw[start : start + count], "big"), start + count
    if start + first > end:
        raise _Malformed(f"{what} leaves the structure")
    return _Element(tag, start, start + first, start + first)


def _unstated(raw: bytes, opened: _Element, what: str, budget: list[int]) -> _Element:
    """Find the end of an element that states none: the two zeros that no inner element has taken."""
    at, depth = opened.start, 1
    while True:
        budget[0] -= 1
        if budget[0] < 0:
            raise _Malformed(f"{what} has more than {_PIECES_MAX} pieces")
        if raw[at : at + 2] == b"\0\0":
            depth -= 1
            if not depth:
                return _Element(opened.tag, opened.start, at, at + 2)
            at += 2
        elif raw[at + 1 : at + 2] == b"\x80":
            depth, at = depth + 1, at + 2
        else:
            at = _element(raw, at, opened.end, what, budget).after


def _signed(raw: bytes) -> tuple[int | None, bytes | None]:
    """Return whether there are signers, and the content that is signed; no first one when it is encrypted."""
    budget = [_PIECES_MAX]
    outer = _expect(raw, 0, len(raw), (_SEQUENCE,), "the structure", budget)
    if outer.after != len(raw):
        raise _Malformed("there are bytes behind it")
    kind = raw[outer.start : outer.start + len(_SIGNED)]
    if kind not in (_SIGNED, _ENVELOPED):
        raise _Malformed("it is neither signed nor enveloped data")
    content = _expect(raw, outer.start + len(kind), outer.end, (_EXPLICIT,), "its content", budget)
    data = _expect(raw, content.start, content.end, (_SEQUENCE,), "its data", budget)
    if kind == _ENVELOPED:
        return None, None
    version = _expect(raw, data.start, data.end, (0x02,), "its version", budget)
    digests = _expect(raw, version.after, data.end, (_SET,), "its list of digests", budget)
    within = _expect(raw, digests.after, data.end, (_SEQUENCE,), "the signed content", budget)
    at = within.after
    signers = _element(raw, at, data.end, "its list of signers", budget)
    for _ in _OTHERS:
        if signers.tag in _OTHERS:
            signers = _element(raw, signers.after, data.end, "its list of signers", budget)
    if signers.tag != _SET:
        raise _Malformed("its list of signers is missing")
    return signers.end - signers.start, _content(raw, within, budget)


def _expect(raw: bytes, at: int, end: int, tags: tuple[int, ...], what: str, budget: list[int]) -> _Element:
    found = _element(raw, at, end, what, budget)
    if found.tag not in tags:
        raise _Malformed(f"{what} is missing")
    return found


def _content(raw: bytes, within: _Element, budget: list[int]) -> bytes | None:
    """Return the signed bytes, ``None`` when they are detached."""
    kind = _expect(raw, within.start, within.end, (0x06,), "the kind of the signed content", budget)
    if kind.after >= within.end:
        return None
    wrapped = _expect(raw, kind.after, within.end, (_EXPLICIT,), "the signed content", budget)
    octets = _expect(raw, wrapped.start, wrapped.end, (_OCTETS, _CONSTRUCTED_OCTETS), "the signed content", budget)
    if octets.tag == _OCTETS:
        return raw[octets.start : octets.end]
    return b"".join(raw[piece.start : piece.end] for piece in _pieces(raw, octets, budget))


def _pieces(raw: bytes, octets: _Element, budget: list[int]) -> Iterator[_Element]:
    at = octets.start
    while at < octets.end:
        budget[0] -= 1
        if budget[0] < 0:
            raise _Malformed(f"the signed content has more than {_PIECES_MAX} pieces")
        piece = _expect(raw, at, octets.end, (_OCTETS,), "a piece of the signed content", budget)
        yield piece
        at = piece.after


def _read_manifest(raw: bytes, source: BinaryIO, payload_bytes: int) -> Bundle:
    if len(raw) > _MANIFEST_BYTES_MAX:
        raise Invalid(f"RAUC bundle: its manifest has {len(raw)} bytes, more than the {_MANIFEST_BYTES_MAX} allowed.")
    try:
        values = _values(raw.decode("utf-8"))
    except (UnicodeDecodeError, _Malformed) as error:
        raise Invalid(f"RAUC bundle: its manifest is malformed: {error}.") from None
    kind = values.get(("bundle", "format"))
    if kind not in {"verity", "crypt"}:
        raise Invalid("RAUC bundle: a signed manifest must have format=verity or format=crypt under [bundle].")
    compatible = values.get(("update", "compatible"))
    if not compatible:
        raise Invalid("RAUC bundle: its manifest has no compatible under [update].")
    _check_verity(values.get(("bundle", "verity-size")), payload_bytes)
    if kind == "verity":
        _check_squashfs(source)
    return Bundle("verity" if kind == "verity" else "crypt", compatible, values.get(("update", "version")) or None)


def _values(text: str) -> dict[tuple[str, str], str]:
    """Read the keys that are needed of a key file. Refuses them twice: not every reader would take the same one."""
    found: dict[tuple[str, str], str] = {}
    group: str | None = None
    groups: set[str] = set()
    lines = text.split("\n", _LINES_MAX)
    if len(lines) > _LINES_MAX:
        raise _Malformed(f"it has more than {_LINES_MAX} lines")
    for number, line in enumerate(lines, 1):
        shown = line.strip(" \t\r\f\v")
        if not shown or shown[0] == "#":
            continue
        if shown[0] == "[":
            if shown[-1] != "]" or len(shown) < 3:
                raise _Malformed(f"line {number} is neither a group nor a key")
            group = shown[1:-1]
            if group in groups:
                raise _Malformed(f"its group [{group}] stands twice")
            if group in _GROUPS:
                groups.add(group)
            continue
        key, equals, value = shown.partition("=")
        if not equals or not key or group is None:
            raise _Malformed(f"line {number} is neither a group nor a key of one")
        place = (group, key.rstrip(" \t"))
        if place in _WANTED:
            if place in found:
                raise _Malformed(f"its key {place[1]} stands twice")
            value = value.lstrip(" \t")
            if len(value) > _VALUE_CHARS_MAX:
                raise _Malformed(f"the value in line {number} has more than {_VALUE_CHARS_MAX} characters")
            found[place] = value
    return {place: _ESCAPE.sub(lambda match: _ESCAPES[match[0]], value) for place, value in found.items()}


def _check_verity(text: str | None, payload_bytes: int) -> None:
    """Demand that image and hash tree are whole blocks and fill the payload: a truncated file does not."""
    tree = int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 12 else 0
    image = payload_bytes - tree
    if tree <= 0 or tree % _BLOCK_BYTES or image <= 0 or image % _BLOCK_BYTES:
        raise Invalid(
            f"RAUC bundle: its payload of {payload_bytes} bytes is not an image and a hash tree of whole blocks, "
            f"as verity-size={text} in the manifest demands."
        )


def _check_squashfs(source: BinaryIO) -> None:
    source.seek(0)
    if source.read(len(SQUASHFS_MAGIC)) != SQUASHFS_MAGIC:
        raise Invalid("RAUC bundle: does not begin with a squashfs image.")
