"""A factory's file of devices, read strictly: CSV in UTF-8 with a header line, as spreadsheets write it too. Pure.

Every fault is told with its line and column, the first twenty of them at once; after a hundred reading stops.
Deliberately knows no database: what exists already is ``imports``' to find. Spec:
``docs/how-to/provision-a-batch.md``.
"""

import codecs
import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO, Final, NamedTuple

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
_RARE_KEYS_MAX: Final = 1_000  # each takes as long as ten others
_LABELS_KEPT: Final = 256  # texts of labels that many rows share
_ONCE: Final = ("sid", "name", "public_key", "token_hash")
_PROOFS: Final = ("public_key", "token_hash")


class BatchRow(msgspec.Struct, frozen=True, gc=False):
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
    """What is wrong with a batch, by line and column; ``count`` says how many faults there are."""

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self._told: list[str] = []
        self.count = 0

    def add(self, line: int, column: str, what: str) -> None:
        """Add a fault."""
        self.count += 1
        if len(self._told) < FAULTS_MAX:
            self._told.append(f"line {line}, column {column}: {what.rstrip('.')}")

    def __bool__(self) -> bool:
        """Return whether something is wrong."""
        return self.count > 0

    def __str__(self) -> str:
        """Return the first of them, and how many there are beyond."""
        more = self.count - len(self._told)
        return "; ".join(self._told) + (f"; and {more} more" if more else "") + ("." if self._told else "")


def parse(file: BinaryIO, limits: Limits) -> Iterator[BatchRow]:
    """Return the rows of a batch, one after the other: none is good unless all could be read.

    Raises ``Invalid`` with what is wrong, by line and column. Memory holds a row, and a number for what stands once.
    """
    faults = Faults()
    read = _readers(limits)
    count = 0
    columns: list[_Column] = []
    for line, cells in _lines(file, limits.import_rows_max):
        if not columns:
            columns = [
                _Column(name, COLUMNS.index(name), name in _PROOFS, read[name], {} if name in _ONCE else None)
                for name in cells
            ]
            continue
        if count >= limits.import_rows_max:
            raise Invalid(f"The file has more than {limits.import_rows_max} devices: split it.")
        count += 1
        row = _row(line, cells, columns, faults)
        if row is not None:
            yield row
        elif faults.count >= _FAULTS_END:
            raise Invalid(f"Nothing was imported, and lines after {line} were not read: {faults}")
    if faults:
        raise Invalid(f"Nothing was imported: {faults}")
    if not count:
        raise Invalid("The file has no devices.")


class _Column(NamedTuple):
    """A column that the header names.

    ``place`` is that of its value in a row; ``seen`` has the line of each value, where a value may stand once.
    """

    name: str
    place: int
    proves: bool
    read: Callable[[str], Any]
    seen: dict[int, int] | None


def _check_text(file: BinaryIO) -> None:
    """Raise ``Invalid`` for a file that is not UTF-8, that holds NUL or a line without an end.

    The file is then at its beginning again.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    line, begun = 1, ""
    file.seek(0)
    if file.read(2) in _UTF16:
        raise Invalid("Nothing was imported: the file is UTF-16. Save it as CSV UTF-8.")
    file.seek(0)
    while True:
        block = file.read(_BLOCK)
        pending, _ = decoder.getstate()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += (pending + block).count(b"\n", 0, error.start)
            raise Invalid(
                f"Nothing was imported: line {line} is not valid UTF-8. Save the file as CSV UTF-8."
            ) from error
        if "\0" in text:
            line += text.count("\n", 0, text.index("\0"))
            raise Invalid(f"Nothing was imported: line {line} has a NUL character.")
        joined, start = begun + text, 0
        while len(joined) - start > _ROW_CHARS_MAX:
            end = joined.rfind("\n", start, start + _ROW_CHARS_MAX + 1)
            if end < 0:
                raise _too_long(line + joined.count("\n", 0, start))
            start = end + 1
        line += text.count("\n")
        begun = joined[max(start, joined.rfind("\n", start) + 1) :]
        if not block:
            break
    file.seek(0)


def _too_long(line: int) -> Invalid:
    return Invalid(f"Nothing was imported: line {line} has more than {_ROW_CHARS_MAX} characters.")


def _lines(file: BinaryIO, rows_max: int) -> Iterator[tuple[int, list[str]]]:
    """Return the header's names, then each row's cells, with their lines' numbers. Raises ``Invalid``."""
    _check_text(file)
    decoded = io.TextIOWrapper(file, encoding="utf-8-sig", newline=None)
    try:
        separator = _separator(decoded.readline(_CELL_CHARS_MAX))
        decoded.seek(0)
        yield from _cells(decoded, separator, rows_max)
    finally:
        decoded.detach()


def _cells(file: io.TextIOBase, separator: str, rows_max: int) -> Iterator[tuple[int, list[str]]]:
    last, blank = 0, 0  # the line that ended the row before, and how many rows had nothing

    def blocks() -> Iterator[list[str]]:
        """Return lines, many at a time, because the reader takes them from a list without running Python for each.

        The reader would take a whole file for one row: a row that began before the block that was given last is too
        long.
        """
        given, block = 0, 0
        while lines := file.readlines(_ROW_CHARS_MAX):
            if given and last < given - block:
                raise _too_long(last + 1)
            block = len(lines)
            given += block
            if given > _LINES_EACH * rows_max:
                raise Invalid(
                    "Nothing was imported: the file has ten lines for each device that it may have: split it."
                )
            yield lines

    reader = csv.reader(chain.from_iterable(blocks()), strict=True, delimiter=separator)
    try:
        empty: list[str] = []
        header = _trimmed([name.strip().lower() for name in next(reader, empty)], 0)
        _check_header(header)
        width = len(header)
        yield 1, header
        last = reader.line_num
        for found in reader:
            line, last = last + 1, reader.line_num
            cells = list(map(str.strip, found))
            if not any(cells):
                blank += 1
                if blank > rows_max:
                    raise Invalid(f"Nothing was imported: the file has more than {rows_max} blank lines: delete them.")
                continue
            if len(cells) > width:
                cells = _trimmed(cells, width)
            if len(cells) != width:
                raise Invalid(f"Nothing was imported: line {line} has {len(cells)} cells; {width} are named.")
            yield line, cells
    except csv.Error as error:
        raise Invalid(f"Nothing was imported: line {last + 1} is not CSV: {error}.") from error


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
            found = label_rules.parse_cell(text, limits)
            if len(pairs) < _LABELS_KEPT:
                pairs[text] = found
        return found

    rare = 0

    def public_key(text: str) -> bytes:
        nonlocal rare
        found = jws.parse_common_key(text)
        if found is None:
            rare += 1
            if rare > _RARE_KEYS_MAX:
                raise Invalid(
                    f"is in an unusual form, as {_RARE_KEYS_MAX} before it; openssl ec -pubin -conv_form uncompressed"
                    " writes the usual one."
                )
            found = jws.parse_public_key(text)
        return found

    return {
        "sid": rules.check_own_sid,
        "name": lambda text: check_unique_name(text, limits.device_name_chars_max),
        "hardware_class": lambda text: check_label("hardware_class", text, limits.label_chars_max),
        "labels": labels,
        "public_key": public_key,
        "token_hash": _token_hash,
    }


def _row(line: int, cells: list[str], columns: list[_Column], faults: Faults) -> BatchRow | None:
    """Return a row, or ``None`` where it, or one before it, has a fault."""
    values: list[Any] = [None] * len(COLUMNS)
    proved = False
    for (name, place, proves, read, seen), text in zip(columns, cells, strict=True):
        if not text:
            continue
        proved = proved or proves
        try:
            if len(text) > _CELL_CHARS_MAX:
                raise Invalid(f"has more than {_CELL_CHARS_MAX} characters.")
            values[place] = read(text)
        except Invalid as error:
            faults.add(line, name, error.detail)
        if seen is None:
            continue
        # A hash of 64 bits, keyed by this process alone, stands for the text: two of 100,000 texts are alike by
        # chance in one of 3,000 million files.
        first = seen.setdefault(hash(text if name == "name" else text.lower()), line)
        if first != line:
            faults.add(line, name, f"the same as in line {first}.")
    if not proved:
        faults.add(line, "public_key", "a device needs a public_key or a token_hash to authenticate.")
    if faults.count:
        return None
    sid, name, public_key, token_hash, labels, hardware_class = values
    return BatchRow(line, sid, name, hardware_class, labels or {}, public_key, token_hash)


def _token_hash(text: str) -> bytes:
    # ``fromhex`` skips blanks between bytes: the length of both sides shows that there are none.
    with contextlib.suppress(ValueError):
        if len(text) == 64 and len(found := bytes.fromhex(text)) == 32:
            return found
    raise Invalid("must be the SHA-256 of a device token: 64 hexadecimal digits.")
