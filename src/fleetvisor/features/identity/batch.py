"""A factory's file of devices, read strictly: CSV in UTF-8 with a header line, as spreadsheets write it too. Pure.

Every fault is told with its line and column, the first twenty of them at once; after a hundred reading stops.
Deliberately knows no database: what exists already is ``imports``' to find. Spec:
``docs/how-to/provision-a-batch.md``.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, BinaryIO, Final

import msgspec

from fleetvisor.features.devices import labels as label_rules
from fleetvisor.features.devices import rules
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import check_label, check_unique_name
from fleetvisor.ground.sids import DeviceSid
from fleetvisor.protocol import jws

COLUMNS: Final = ("sid", "name", "public_key", "token_hash", "labels", "hardware_class")
FAULTS_MAX: Final = 20
_FAULTS_END: Final = 100
_SEPARATORS: Final = ",;\t"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CELL_CHARS_MAX: Final = 8192
_ROW_CHARS_MAX: Final = 64 << 10
_LINES_EACH: Final = 10  # blank ones count, too
_BLOCK: Final = 256 << 10
_LABELS_KEPT: Final = 256  # texts of labels that many rows share
_TOKEN_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_ONCE: Final = ("sid", "name", "public_key", "token_hash")


class BatchRow(msgspec.Struct, frozen=True):
    """One device of a batch; ``line`` is where it stands. ``device_sid`` is ``None`` where a new one is to be made."""

    line: int
    device_sid: DeviceSid | None
    unique_name: str | None
    hardware_class: str | None
    labels: dict[str, str]
    point: bytes | None
    token_hash: bytes | None

    @property
    def key_hash(self) -> str | None:
        """Return the key's fingerprint."""
        return None if self.point is None else jws.fingerprint(self.point)


class Faults:
    """What is wrong with a batch, by line and column."""

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self._told: list[str] = []
        self._count = 0

    def add(self, line: int, column: str, what: str) -> None:
        """Add a fault."""
        self._count += 1
        if len(self._told) < FAULTS_MAX:
            self._told.append(f"line {line}, column {column}: {what.rstrip('.')}")

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self._count

    def __bool__(self) -> bool:
        """Return whether something is wrong."""
        return self._count > 0

    def __str__(self) -> str:
        """Return the first of them, and how many there are beyond."""
        more = self._count - len(self._told)
        return "; ".join(self._told) + (f"; and {more} more" if more else "") + ("." if self._told else "")


def parse(file: BinaryIO, limits: Limits) -> Iterator[BatchRow]:
    """Return the rows of a batch, one after the other: none is good unless all could be read.

    Raises ``Invalid`` with what is wrong, by line and column. Memory holds a row, and a digest of what stands once.
    """
    faults = Faults()
    read = _readers(limits)
    count = 0
    seen: dict[bytes, int] = {}
    for line, cells in _lines(file, _LINES_EACH * limits.import_rows_max):
        if count >= limits.import_rows_max:
            raise Invalid(f"The file has more than {limits.import_rows_max} devices: split it.")
        count += 1
        row = _row(line, cells, read, faults)
        if row is not None and not faults:
            yield row
        for column in _ONCE:
            value = cells.get(column)
            if not value:
                continue
            first = seen.setdefault(_digest(column, value if column == "name" else value.lower()), line)
            if first != line:
                faults.add(line, column, f"the same as in line {first}.")
        if faults.count >= _FAULTS_END:
            raise Invalid(f"Nothing was imported, and lines after {line} were not read: {faults}")
    if faults:
        raise Invalid(f"Nothing was imported: {faults}")
    if not count:
        raise Invalid("The file has no devices.")


def _digest(column: str, value: str) -> bytes:
    return blake2b(f"{column}={value}".encode(), digest_size=16).digest()


class _Text:
    """The lines of a file for the reader of CSV, which would take a whole file for one row: no row may be so long."""

    def __init__(self, file: io.TextIOBase, lines_max: int) -> None:
        self._file = file
        self._left = lines_max
        self._chars = 0
        self.row_line = 1

    def begin_row(self, line: int) -> None:
        self._chars, self.row_line = 0, line

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        text = self._file.readline(_ROW_CHARS_MAX + 1)
        self._chars += len(text)
        self._left -= 1
        if self._left < 0:
            raise Invalid("Nothing was imported: the file has ten lines for each device that it may have: split it.")
        if self._chars > _ROW_CHARS_MAX:
            raise Invalid(f"Nothing was imported: line {self.row_line} has more than {_ROW_CHARS_MAX} characters.")
        if not text:
            raise StopIteration
        return text


def _check_text(file: BinaryIO) -> None:
    """Raise ``Invalid`` for a file that is not UTF-8, or that holds NUL; the file is then at its beginning again."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    file.seek(0)
    if file.read(2) in _UTF16:
        raise Invalid("Nothing was imported: the file is UTF-16. Save it as CSV in UTF-8.")
    file.seek(0)
    while True:
        block = file.read(_BLOCK)
        pending, _ = decoder.getstate()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += (pending + block).count(b"\n", 0, error.start)
            raise Invalid(
                f"Nothing was imported: line {line} is not valid UTF-8; save the file as CSV UTF-8."
            ) from error
        if "\0" in text:
            line += text.count("\n", 0, text.index("\0"))
            raise Invalid(f"Nothing was imported: line {line} has a NUL character.")
        line += block.count(b"\n")
        if not block:
            break
    file.seek(0)


def _lines(file: BinaryIO, lines_max: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Return each line's cells by column, and its number. Raises ``Invalid``."""
    _check_text(file)
    decoded = io.TextIOWrapper(file, encoding="utf-8-sig", newline=None)
    try:
        separator = _separator(decoded.readline(_CELL_CHARS_MAX))
        decoded.seek(0)
        yield from _cells(_Text(decoded, lines_max), separator)
    finally:
        decoded.detach()


def _cells(text: _Text, separator: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(text, strict=True, delimiter=separator)
    line = 1
    try:
        empty: list[str] = []
        header = _trimmed([name.strip().lower() for name in next(reader, empty)], 0)
        _check_header(header)
        line = reader.line_num + 1
        text.begin_row(line)
        width = len(header)
        for found in reader:
            if any(found) and any(map(str.strip, found)):
                cells = _trimmed(found, width) if len(found) > width else found
                if len(cells) != width:
                    raise Invalid(f"Nothing was imported: line {line} has {len(cells)} cells; {width} are named.")
                yield line, dict(zip(header, map(str.strip, cells), strict=True))
            line = reader.line_num + 1
            text.begin_row(line)
    except csv.Error as error:
        raise Invalid(f"Nothing was imported: line {line} is not CSV: {error}.") from error


def _separator(header: str) -> str:
    """Return what stands between the names of columns: a comma, or what a spreadsheet takes where it is decimal."""
    return max(_SEPARATORS, key=header.count)


def _trimmed(cells: list[str], least: int) -> list[str]:
    """Return cells without the empty ones at the end that a spreadsheet adds, but at least so many of them."""
    end = len(cells)
    while end > least and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _check_header(header: list[str]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or len(set(header)) != len(header) or not set(header) & {"public_key", "token_hash"}:
        raise Invalid(
            f"Nothing was imported: line 1 must name columns, each once, of {', '.join(COLUMNS)},"
            " with public_key or token_hash among them; commas, semicolons or tabs stand between them."
        )


Readers = Mapping[str, Callable[[str], object]]


def _readers(limits: Limits) -> Readers:
    """Return what reads a cell of each column, once it is not empty. Each raises ``Invalid``."""
    pairs: dict[str, dict[str, str]] = {}

    def labels(text: str) -> dict[str, str]:
        found = pairs.get(text)
        if found is None:
            found = _labels(text, limits)
            if len(pairs) < _LABELS_KEPT:
                pairs[text] = found
        return found

    return {
        "sid": rules.check_own_sid,
        "name": lambda text: check_unique_name(text, limits.device_name_chars_max),
        "hardware_class": lambda text: check_label("hardware_class", text, limits.label_chars_max),
        "labels": labels,
        "public_key": jws.parse_public_key,
        "token_hash": _token_hash,
    }


def _row(line: int, cells: Mapping[str, str], readers: Readers, faults: Faults) -> BatchRow | None:
    before = faults.count
    values: dict[str, Any] = {}
    for column, text in cells.items():
        if not text:
            continue
        try:
            if len(text) > _CELL_CHARS_MAX:
                raise Invalid(f"has more than {_CELL_CHARS_MAX} characters.")
            values[column] = readers[column](text)
        except Invalid as error:
            faults.add(line, column, error.detail)
    if not cells.get("public_key") and not cells.get("token_hash"):
        faults.add(line, "public_key", "a device needs a public key or a token's hash to prove itself with.")
    if faults.count != before:
        return None
    found = values.get
    return BatchRow(
        line,
        found("sid"),
        found("name"),
        found("hardware_class"),
        found("labels") or {},
        found("public_key"),
        found("token_hash"),
    )


def _labels(text: str, limits: Limits) -> dict[str, str]:
    """Read ``key=value;key=value``."""
    pairs = [pair.strip() for pair in text.split(";") if pair.strip()]
    changes = label_rules.parse(pairs, limits)
    if None in changes.values():
        raise Invalid("Labels: a new device has none to remove.")
    return label_rules.merged({}, changes, limits)


def _token_hash(text: str) -> bytes:
    if _TOKEN_HASH.fullmatch(text) is None:
        raise Invalid("must be the SHA-256 of a device token: 64 hexadecimal digits.")
    return bytes.fromhex(text)
