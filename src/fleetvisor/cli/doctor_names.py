"""The doctor's look at names and keys that an older version made and that clients cannot address in a path.

Reads the SQLite file read-only, in pages by primary key, for a bounded time; nothing is changed.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, cast

from fleetvisor.cli.checks import Check, Verdict
from fleetvisor.ground.names import path_fault

_TIME_S: Final = 10.0
_NAMED_MAX: Final = 10
_CHARS_MAX: Final = 80
PAGE: Final = 1000
_DEVICES: Final = """
SELECT device_sid, '', '', unique_name FROM devices WHERE device_sid > ? AND ? = '' AND ? = ''
ORDER BY device_sid LIMIT ?"""
_APPS: Final = """
SELECT app_sid, '', '', unique_name FROM apps WHERE app_sid > ? AND ? = '' AND ? = '' ORDER BY app_sid LIMIT ?"""
_KEYS: Final = """
SELECT owner_sid, store, key, key FROM configs WHERE (owner_sid, store, key) > (?, ?, ?)
ORDER BY owner_sid, store, key LIMIT ?"""
_ADVICE: Final = (
    "Clients put these into a path as they are and reach another resource, or none. Ask for a Device or App by its SID,"
    " or for any at the percent-encoded path. Rename the Devices; make the Apps, Configs and Secrets anew under"
    " another name."
)


def name_check(database: Path, time_s: float = _TIME_S, page: int = PAGE) -> Check:
    """Look for unique names and keys that no new one may be like, ``page`` rows at a time."""
    import apsw

    try:
        with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(5000)
            return _judge(connection, time.monotonic() + time_s, page)
    except apsw.Error as error:
        advice = "Start the server once: it brings the database to this version."
        return Check("names", Verdict.WARN, f"{database} cannot be asked: {error}", advice)


def _judge(connection: Any, end: float, page: int) -> Check:  # noqa: ANN401  (apsw's types are incomplete)
    count, named, whole = 0, list[str](), True
    for what, sql in (("Device", _DEVICES), ("App", _APPS), ("key", _KEYS)):
        for rows in _pages(connection, sql, page):
            for sid, store, _, name in rows:
                if name is not None and path_fault(name) is not None:
                    count += 1
                    if len(named) < _NAMED_MAX:
                        named.append(f"{store or what} {_shown(name)} ({sid})")
            if time.monotonic() > end:
                whole = False
                break
    looked = "" if whole else f" in what {_TIME_S:.0f} seconds were enough to look through"
    if not count:
        return Check("names", Verdict.OK, f"clients can address all names and keys{looked}")
    more = f" and {count - len(named)} more" if count > len(named) else ""
    return Check(
        "names", Verdict.WARN, f"{count} that clients cannot address{looked}: {', '.join(named)}{more}", _ADVICE
    )


def _pages(connection: Any, sql: str, page: int) -> Iterator[list[tuple[str, str, str, str | None]]]:  # noqa: ANN401
    place = ("", "", "")
    while True:
        found = connection.execute(sql, (*place, page)).fetchall()
        rows = cast("list[tuple[str, str, str, str | None]]", found)
        if not rows:
            return
        yield rows
        place = rows[-1][:3]


def _shown(name: str) -> str:
    return ascii(name if len(name) <= _CHARS_MAX else name[:_CHARS_MAX] + "…")
