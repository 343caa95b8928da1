"""What ``fleetvisor doctor`` says of a SQLite database: whether its file is whole.

Reads the file and changes nothing, also while a server writes to it.
"""

from pathlib import Path
from typing import Final

from fleetvisor.cli.checks import Check, Verdict

_TIME_S: Final = 30.0
_ADVICE: Final = (
    "Stop the server and restore the data directory from a backup; see When the database is damaged in"
    " docs/how-to/back-up.md. Then look for the cause: the disk, its controller, or the memory."
)


def no_database(path: Path) -> Check:
    """Say that there is no SQLite file, which only a server with PostgreSQL does without."""
    advice = "That is so with PostgreSQL. Else restore it from a backup: a start without it makes an empty one."
    return Check("database", Verdict.WARN, f"{path} is missing", advice)


def judge_database(path: Path, time_s: float = _TIME_S) -> Check:
    """Look through a database for damage, for a bounded time."""
    from fleetvisor.db.database import DatabaseFault, DatabaseUnfit
    from fleetvisor.db.sqlite_inspect import TimeIsOver, inspect

    try:
        damage = inspect(path, time_s)
    except TimeIsOver:
        finding = f"nothing wrong in what {time_s:.0f} seconds were enough to look through"
        return Check("database", Verdict.OK, f"{finding}; a server looks at the whole file when it starts")
    except DatabaseUnfit as error:
        return Check("database", Verdict.FAIL, f"{path}: {error}", _ADVICE)
    except DatabaseFault as error:
        return Check("database", Verdict.WARN, f"{path} cannot be read: {error}", "Run doctor as the server's user.")
    if damage:
        return Check("database", Verdict.FAIL, f"{path} is damaged: {damage[0]}", _ADVICE)
    return Check("database", Verdict.OK, "the file is whole")
