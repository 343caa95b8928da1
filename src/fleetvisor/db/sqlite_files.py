"""Whether the files that SQLite has open are still those that stand at their paths.

Somebody may remove or replace them while they are served. SQLite goes on with files that no process will ever find
again, so whatever was acknowledged then would be lost at the next start. The log counts like the database: until it is
carried over, what was committed stands there alone.
"""

from pathlib import Path

from fleetvisor.db.database import DatabaseUnfit


class Files:
    """The database and its write-ahead log, by inode."""

    def __init__(self, database: Path) -> None:
        """Note the files of a connection that is open."""
        self._known = {path: _inode(path) for path in (database, Path(f"{database}-wal"))}

    def check(self) -> None:
        """Raise ``DatabaseUnfit`` when a path no longer leads to the file that was opened."""
        for path, known in self._known.items():
            found = _inode(path)
            if known is None:  # SQLite makes the log with the first transaction
                self._known[path] = found
            elif found != known:
                raise DatabaseUnfit("moved", f"{path} is not the file that was opened")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
