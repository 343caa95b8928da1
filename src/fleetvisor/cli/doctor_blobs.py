"""The doctor's look at firmware bytes: whether the files that the database names are there and are what was stored.

A sample, or (``--blobs``) all of them. Reads the SQLite file read-only, beside a server that runs; nothing is changed,
so a layer that is found damaged here is noted by the server when it meets it. Deliberately no PostgreSQL: the doctor
does not know its URL.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final, cast

from fleetvisor.cli.checks import Check, Verdict

Heard = Callable[[int], None]

SAMPLE: Final = 32
SAMPLE_BYTES: Final = 256 << 20
VARIABLE: Final = "FLEETVISOR_SERVE_BLOBS"
_NAMED_MAX: Final = 5
_FROM: Final = "FROM layers WHERE stored = 1 AND uses > 0"
_ADVICE: Final = "Upload the same firmware again (fleetvisor apps create): that mends it. Look at the disk, too."
_LOST: Final = (
    f"If the server has them elsewhere (--blobs), set {VARIABLE}. Else mount the directory, or restore it from a"
    " backup. To start without it: fleetvisor serve --blobs-lost"
)


def count_layers(database: Path) -> int:
    """Return how many layers should be stored; 0 when the database cannot say so."""
    if not database.is_file():
        return 0
    import apsw

    try:
        with closing(_open(database)) as connection:
            return int(str(connection.execute(f"SELECT count(*) {_FROM}").get))
    except apsw.Error:  # ``blob_check`` says so
        return 0


def blob_check(directory: Path, *, every: bool, progress: Heard) -> Iterator[Check]:
    """Look at the layers that a data directory's database names; ``progress`` is told how many are done."""
    database = directory / "fleetvisor.db"
    if not database.is_file():
        return
    import apsw

    try:
        with closing(_open(database)) as connection:
            yield _judge(connection, Path(os.environ.get(VARIABLE) or directory / "blobs"), every=every, heard=progress)
    except apsw.Error as error:
        advice = "Start the server once: it brings the database to this version."
        yield Check("firmware", Verdict.WARN, f"{database} cannot be asked: {error}", advice)


def _open(database: Path) -> Any:  # noqa: ANN401  (apsw's types are incomplete)
    import apsw

    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(5000)
    return connection


def _judge(connection: Any, blobs: Path, *, every: bool, heard: Heard) -> Check:  # noqa: ANN401
    wrong: list[str] = []
    looked = missing = marked = size = 0
    for digest, blob, size_bytes, damaged in _rows(connection, every=every):
        if not every and looked and size + size_bytes > SAMPLE_BYTES:
            break
        looked, size, marked = looked + 1, size + size_bytes, marked + damaged
        path = blobs / blob
        if not path.is_file():
            missing += 1
            wrong.append(digest)
        elif not _holds(path, digest, size_bytes):
            wrong.append(digest)
        heard(looked)
    layers = f"{looked} layer" if looked == 1 else f"{looked} layers"
    what = layers if every else f"a sample of {layers}"
    if not looked:
        return Check("firmware", Verdict.OK, "no firmware is stored")
    if missing == looked:
        return Check("firmware", Verdict.FAIL, f"none of {what} is in {blobs}", _LOST)
    if wrong:
        named = " ".join(wrong[:_NAMED_MAX]) + (" …" if len(wrong) > _NAMED_MAX else "")
        finding = f"of {what} {len(wrong)} are damaged, {missing} of them missing: {named}"
        return Check("firmware", Verdict.FAIL, finding, _ADVICE)
    if marked:
        advice = "The server looks at them again within a minute."
        return Check(
            "firmware", Verdict.WARN, f"{what}: the bytes are right, but {marked} of them noted as damaged", advice
        )
    return Check("firmware", Verdict.OK, f"{what}: the bytes are what was stored")


def _rows(connection: Any, *, every: bool) -> Iterator[tuple[str, str, int, int]]:  # noqa: ANN401
    """Read layers piece by piece: all by digest, or some from a random digest on, which is a fair sample."""
    place, left = "" if every else os.urandom(8).hex(), None if every else SAMPLE
    turned = every
    sql = f"SELECT digest, blob, size_bytes, date_damaged IS NOT NULL {_FROM} AND digest > ? ORDER BY digest LIMIT 100"
    first: str | None = None
    while True:
        rows = cast("list[tuple[str, str, int, int]]", connection.execute(sql, (place,)).fetchall())
        for row in rows:
            if row[0] == first or left == 0:
                return
            first = first or row[0]
            left = None if left is None else left - 1
            yield row
        if rows:
            place = rows[-1][0]
        elif turned:
            return
        else:
            place, turned = "", True


def _holds(path: Path, digest: str, size_bytes: int) -> bool:
    try:
        with path.open("rb") as file:
            return path.stat().st_size == size_bytes and file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False
