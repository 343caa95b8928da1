"""A file of devices is read fast, whatever its rows hold; what they mean is in ``tests/api/test_imports.py``."""

import base64
import contextlib
import io
import tracemalloc
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests import yardstick

from fleetvisor.features.identity import batch
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits

pytestmark = pytest.mark.slow

MIB = 1 << 20
MOST_S = 0.1
KEYS = [ec.derive_private_key(number, ec.SECP256R1()).public_key() for number in range(1, 3_001)]
POINTS = [key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for key in KEYS]
COMPRESSED = [key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint) for key in KEYS]
SPKI = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")


def pem(der: bytes) -> bytes:
    return b'"-----BEGIN PUBLIC KEY-----\n%s-----END PUBLIC KEY-----\n"' % base64.encodebytes(der)


def standard(number: int) -> bytes:
    return b'"%s"' % KEYS[number].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def labels(number: int, many: int) -> bytes:
    return b";".join(b"%c%c=%d" % (97 + at % 26, 97 + at // 26, number) for at in range(many))


# A row of each kind by its number. Rows of keys come again after 3,000, because keys take long to make: that is a fault
# only from the second on, and a file of 3,000 is compared with its part of a MiB.
ROWS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "hash": (b"token_hash", lambda number: b"%064x" % number),
    "name": (b"name,token_hash", lambda number: b"n%d,%064x" % (number, number)),
    "name of Unicode": (b"name,token_hash", lambda number: "Gerät %d,%064x".encode() % (number, number)),
    "sid": (b"sid,token_hash", lambda number: b"UV%032x,%064x" % (number, number)),
    "class": (b"hardware_class,token_hash", lambda number: b"c%d,%064x" % (number, number)),
    "label": (b"labels,token_hash", lambda number: b"a=%d,%064x" % (number, number)),
    "labels": (b"labels,token_hash", lambda number: b"%s,%064x" % (labels(number, 32), number)),
    "point": (b"public_key", lambda number: base64.urlsafe_b64encode(POINTS[number])),
    "hex": (b"public_key", lambda number: POINTS[number].hex().encode()),
    "pem": (b"public_key", standard),
    "blank cells": (b"name,token_hash", lambda number: b",,,,,"),
    "one cell": (b"token_hash,name", lambda number: b"a"),
    "blank lines": (b"token_hash", lambda number: b""),
    "quoted ends of lines": (b"token_hash,name", lambda number: b'"' + b"\n" * 8_000 + b'",'),
    "many cells": (b"token_hash,name", lambda number: b"," * 60_000),
    "long lines": (b"token_hash,name", lambda number: b"%064x,%s" % (number, b" " * 60_000)),
    "long cell": (b"token_hash,name", lambda number: b"," + b"x" * 8_000),
}


def file_of(kind: str) -> bytes:
    """Return a file of a MiB, or of 3,000 rows where they hold keys."""
    header, row = ROWS[kind]
    lines, size = [header], 0
    while size < MIB and (b"public_key" not in header or len(lines) <= len(KEYS)):
        lines.append(row(len(lines) - 1))
        size += len(lines[-1]) + 1
    return b"\n".join(lines) + b"\n"


def read(data: bytes) -> int:
    return sum(1 for _ in batch.parse(io.BytesIO(data), Limits()))


@pytest.mark.parametrize("kind", ROWS)
def test_no_file_takes_100_ms_for_a_mib(kind: str) -> None:
    data = file_of(kind)

    def tried() -> None:
        with contextlib.suppress(Invalid):
            read(data)

    most_s = MOST_S * len(data) / MIB
    taken = yardstick.seconds(tried, most_s, tries=12)

    assert taken <= most_s, f"{taken / len(data) * MIB * 1000:.0f} ms for each MiB"


def test_keys_in_a_form_that_takes_long_to_read_are_bounded() -> None:
    rows = [pem(SPKI + point) for point in COMPRESSED]

    assert read(b"public_key\n" + b"\n".join(rows[:1_000])) == 1_000
    with pytest.raises(Invalid, match=r"line \d+, column public_key: is in an unusual form, as 1000 before it"):
        read(b"public_key\n" + b"\n".join(rows[:1_001]))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_row_that_is_too_long_is_refused_with_its_line(end: bytes) -> None:
    for long in (b"x" * 70_000, b'"' + b"y\n" * 200_000 + b'"', b'"a\n",' * 60_000):
        with pytest.raises(Invalid, match="line 3 (has more than 65536 characters|is not CSV: field larger)"):
            read(b"name,token_hash" + end + b"a,%064x" % 1 + end + long + end)


@pytest.mark.parametrize("size", [14_000, 20_000, 43_000, 60_000, 65_000])
def test_long_lines_are_counted_right_and_take_the_memory_of_a_few_blocks(size: int) -> None:
    good = b"".join(b"%064x,%s\n" % (number, b" " * size) for number in range(400))
    data = b"token_hash,name\n" + good + b"x" * 70_000 + b"\n"
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match="line 402 has more than 65536 characters"):
            read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_blank_lines_do_not_count_as_devices_but_are_bounded() -> None:
    limits = Limits(import_rows_max=2)
    good = b"token_hash\n\n%064x\n , \n%064x\n" % (1, 2)

    assert [row.line for row in batch.parse(io.BytesIO(good), limits)] == [3, 5]
    with pytest.raises(Invalid, match="more than 2 blank lines"):
        list(batch.parse(io.BytesIO(good + b"\n"), limits))
