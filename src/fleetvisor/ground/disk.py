"""Faults of a disk, told apart from all others: full, read-only, failing, or what it holds is damaged.

Each store keeps a ``Condition``: what is wrong with it now. A request that meets such a fault gets 503.
"""

import errno
import os
import re
import tempfile
from pathlib import Path
from typing import Final, Literal

Fault = Literal["disk_full", "read_only", "io_error", "unusable", "moved", "damaged"]

_BY_ERRNO: Final[dict[int, Fault]] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EIO: "io_error",
    errno.EACCES: "unusable",
    errno.EPERM: "unusable",
    errno.EEXIST: "unusable",
    errno.ENOTDIR: "unusable",
    errno.EISDIR: "unusable",
    errno.ELOOP: "unusable",
}
_PROBE_BYTES: Final = 4096
_RUST: Final = re.compile(r"\(os error (\d{1,5})\)")
SENTENCES: Final[dict[Fault, str]] = {
    "disk_full": "The server's disk is full.",
    "read_only": "The server's disk is read-only.",
    "io_error": "The server's disk has failed, or its quota is used up.",
    "unusable": "A folder of the server is missing, or the server has no access to it.",
    "moved": "The server's database file was removed or replaced while the server was running.",
    "damaged": "The server's database is damaged.",
}


def fault_of(error: BaseException) -> Fault | None:
    """Return what an error says of the disk; ``None`` for an error of another kind.

    obstore is written in Rust: its errors carry the number only in their text.
    """
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0)
    found = _RUST.search(str(error))
    return _BY_ERRNO.get(int(found[1])) if found else None


def probe(folder: Path) -> Fault | None:
    """Return what hinders writes to a folder: write a small file there, and remove it.

    Raises ``OSError`` for anything that is no fault of the disk, such as too few descriptors.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".probe-", buffering=0) as file:
            os.write(file.fileno(), bytes(_PROBE_BYTES))
    except FileNotFoundError:
        return "unusable"
    except OSError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        return fault
    return None


class Condition:
    """What is wrong with one store. Any thread may note a fault; a write that succeeds ends all faults but damage."""

    def __init__(self) -> None:
        """Begin with nothing wrong."""
        self._hinders: Fault | None = None
        self._damaged = False

    @property
    def fault(self) -> Fault | None:
        """Return the gravest fault; damage comes first."""
        return "damaged" if self._damaged else self._hinders

    def note(self, fault: Fault | None) -> None:
        """Note a fault, if there is one."""
        if fault == "damaged":
            self._damaged = True
        elif fault is not None:
            self._hinders = fault

    def wrote(self) -> None:
        """Note that a write succeeded. Damage remains: writes beside it succeed."""
        self._hinders = None
