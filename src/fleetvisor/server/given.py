"""The key files that an operator gives beside the data directory: who else may read or replace them.

They are looked at and never changed, because their modes are the operator's: a TLS key of root's that a group may read,
as Debian's ssl-cert has it, is well. ``given.json`` keeps their names for ``fleetvisor doctor``, which knows no options
of ``serve``. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fleetvisor.ground.clock import EARLIEST, Clock, iso
from fleetvisor.server.certificates import name_warnings
from fleetvisor.server.files import DataDirectory, write_private
from fleetvisor.settings import Settings

RECORD: Final = "given.json"
_ROOT: Final = 0


class Given(msgspec.Struct, frozen=True):
    """What ``given.json`` holds: the key files of ``serve``, as absolute paths."""

    key_files: tuple[str, ...] = ()


class KeyFault(NamedTuple):
    """What is wrong with a key file, and what to do."""

    finding: str
    advice: str


def faults_of(path: Path) -> list[KeyFault]:
    """Return what is wrong with who may read and replace a key file. Raises ``OSError`` when nobody can tell."""
    found = path.stat()
    group = stat.S_IRGRP if found.st_uid == _ROOT else 0
    faults: list[KeyFault] = []
    if stat.S_IMODE(found.st_mode) & 0o077 & ~group:
        faults.append(KeyFault(f"others may read or write the key file {path}", f"Run: chmod go= {path}"))
    if found.st_uid not in {_ROOT, os.geteuid()}:
        finding = f"the key file {path} belongs to user {found.st_uid}, who may read and replace it"
        faults.append(KeyFault(finding, "Run serve and doctor as that user, or change its owner."))
    return faults


def read_record(directory: Path) -> Given:
    """Return what the last start noted; nothing when it noted nothing that can be read."""
    try:
        return msgspec.json.decode((directory / RECORD).read_bytes(), type=Given)
    except (FileNotFoundError, msgspec.MsgspecError):
        return Given()


def clock_warnings(settings: Settings, clock: Clock) -> list[str]:
    """Return a warning when this machine's clock is not set, and the server has a CA of its own."""
    now = clock.now()
    if settings.tls_cert is not None or now >= EARLIEST:
        return []
    warning = (
        f"This machine's clock is not set: it says {iso(now)}. A CA that is made now is not valid once the clock is"
        " right. Set the clock, restart the server with --new-ca, and give devices the ca.pem of then."
    )
    return [warning]


def start_warnings(settings: Settings, data: DataDirectory, clock: Clock) -> list[str]:
    """Return what an operator should know of clock, certificate and all key files, and note which were given."""
    files = [file.absolute() for file in (settings.tls_key, *settings.seal_key_file) if file is not None]
    found = [
        *clock_warnings(settings, clock),
        *name_warnings(settings.tls_cert, settings.public_host),
        *data.warnings(),
        *_all_faults(files),
    ]
    noted = Given(tuple(map(str, files)))
    try:
        if read_record(data.root) != noted:
            write_private(data.root / RECORD, msgspec.json.encode(noted))
    except OSError as error:
        found.append(
            f"{error.filename} cannot be written ({error.strerror}): doctor does not look at the given key files."
        )
    return found


def _all_faults(files: Iterable[Path]) -> list[str]:
    faults: list[str] = []
    for path in files:
        try:
            faults += [f"{found.finding[:1].upper()}{found.finding[1:]}. {found.advice}" for found in faults_of(path)]
        except OSError as error:  # it was read a moment ago: its owner takes it away
            faults.append(f"The key file {path} cannot be looked at ({error.strerror}).")
    return faults
