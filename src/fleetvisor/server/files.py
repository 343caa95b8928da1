"""The data directory: who holds it, its keys, its certificates, and the operator's credentials file.

Every file here is 0600 and written whole: temporary file, fsync, rename, fsync of the directory. A key and its
certificate stand in one file, so that a kill between two writes cannot part them. Deliberately knows no service and
no socket. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.disk import SENTENCES, Fault, fault_of
from fleetvisor.pki.ca import Authority, load_authority, make_authority, render_key, why_not_valid
from fleetvisor.pki.seal import KEY_BYTES
from fleetvisor.pki.serving import Serving, is_as_issued, issue, must_renew

_SEAL_NAME: Final = re.compile(r"seal-([0-9]{1,9})\.key")
_LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 0.05

WAY_OUT: Final[dict[Fault, str]] = {
    "disk_full": "Make room on that disk, and start again.",
    "read_only": "Mount that disk so that it can be written, and start again.",
    "io_error": "Look at the system's log for what is wrong with that disk.",
    "unusable": "Make it a folder that the server's user may write to, and start again.",
    "moved": "Put it back where it was, or restore it from a backup (docs/how-to/back-up.md).",
    "damaged": "Restore it from a backup (docs/how-to/back-up.md).",
}


class StartFault(Exception):
    """The server cannot start; the message says why and what to do."""


class Occupied(StartFault):
    """Another process has what this server needs: the data directory, or the port."""


class Credentials(msgspec.Struct, frozen=True):
    """What ``credentials.json`` holds."""

    base_url: str
    account_sid: str
    auth_token: str
    ca_file: str | None
    local_url: str


class DataDirectory:
    """``DIR`` of ``fleetvisor serve --data DIR``, made 0700 at first start."""

    def __init__(self, root: Path) -> None:
        """Make the directory and its folders. Raises ``StartFault``."""
        self.root = root.absolute()
        self._lock: int | None = None
        self._root_lock: int | None = None
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._close_to_others()
            for folder in (self.keys, self.tls, self.spool):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable("made", error) from error

    def _unusable(self, what: str, error: OSError) -> StartFault:
        match error:
            case FileExistsError() | NotADirectoryError():
                why = f"{error.filename} is not a directory, or lies in a file; give another --data"
            case PermissionError():
                place = error.filename or self.root
                why = f"{place} may not be written; run as the user who owns it, or give another --data"
            case _ if (fault := fault_of(error)) is not None:
                why = f"{error.filename or self.root} cannot be written. {SENTENCES[fault]} {WAY_OUT[fault]}"
                return StartFault(f"The data directory {self.root} cannot be {what}: {why}")
            case _:
                why = f"{error.strerror}; give another --data"
        return StartFault(f"The data directory {self.root} cannot be {what}: {why}.")

    def _close_to_others(self) -> None:
        """Make a directory that was there already 0700, if it is ours or empty; refuse any other."""
        if stat.S_IMODE(self.root.stat().st_mode) & 0o077 == 0:
            return
        if any(self.root.iterdir()) and not (self.root / "lock").exists():
            raise StartFault(
                f"{self.root} holds other files and is open to other users: give a directory of its own, or run"
                f" chmod go= {self.root}"
            )
        self.root.chmod(0o700)

    @property
    def keys(self) -> Path:
        """Where the sealing keys lie."""
        return self.root / "keys"

    @property
    def tls(self) -> Path:
        """Where the CA and the server certificate lie, each with its key."""
        return self.root / "tls"

    @property
    def spool(self) -> Path:
        """Where uploads are on their way."""
        return self.root / "spool"

    @property
    def blobs(self) -> Path:
        """Where firmware bytes lie, unless the settings say otherwise."""
        return self.root / "blobs"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "fleetvisor.db"

    @property
    def ca_file(self) -> Path:
        """The CA's certificate, for clients."""
        return self.root / "ca.pem"

    @property
    def credentials(self) -> Path:
        """The operator's credentials."""
        return self.root / "credentials.json"

    def warnings(self) -> list[str]:
        """Return what an operator should know of who owns the directory, and who may read its keys."""
        found: list[str] = []
        owner = self.root.stat().st_uid
        if owner != os.geteuid():
            found.append(
                f"The data directory {self.root} belongs to user {owner}, who may read and replace its keys: run the"
                " server as that user, or change the owner."
            )
        if loose := open_to_others((*self.keys.iterdir(), *self.tls.iterdir())):
            found.append(f"Others may read keys of the server. Run: chmod go= {' '.join(sorted(map(str, loose)))}")
        return found

    def hold(self) -> None:
        """Take the lock until this process ends. Raises ``Occupied`` naming who holds it, or ``StartFault``."""
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable("locked", error) from error
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)  # `fleetvisor doctor` shares the lock for a moment, to see whether it is held
        else:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Occupied(
                f"Another server (process {holder}) serves {self.root}: stop it, or give another --data directory."
            )
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            error.filename = str(self.root / "lock")
            raise self._unusable("locked", error) from error
        try:
            self._root_lock = _lock_folder(self.root)
        except BlockingIOError:
            os.close(descriptor)
            raise Occupied(
                f"Another server serves {self.root}, although its lock file was removed: stop that server first."
            ) from None
        self._lock = descriptor

    def release(self) -> None:
        """Release the lock."""
        if self._root_lock is not None:
            os.close(self._root_lock)
            self._root_lock = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear_leftovers(self) -> None:
        """Remove what an earlier process left behind: uploads on their way, and files half written."""
        for path in (*self.spool.iterdir(), *self.root.glob(".*.new"), *self.root.glob("*/.*.new")):
            if path.is_dir() and path.parent == self.spool and path.name.startswith("parse-"):
                shutil.rmtree(path)
                continue
            with contextlib.suppress(IsADirectoryError):  # nothing else of ours makes one there
                path.unlink(missing_ok=True)

    def seal_keys(self) -> list[Path]:
        """Return the sealing keys' files, the one with the highest number first."""
        found = [(int(match[1]), path) for path in self.keys.iterdir() if (match := _SEAL_NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def make_seal_key(self, entropy: Entropy) -> Path:
        """Make the next sealing key, which seals from the next loading on."""
        numbers = [int(path.stem.removeprefix("seal-")) for path in self.seal_keys()]
        path = self.keys / f"seal-{max(numbers, default=0) + 1}.key"
        write_private(path, entropy.token(KEY_BYTES))
        return path

    def authority(self, clock: Clock, *, anew: bool = False) -> Authority:
        """Return the local CA, made at first start, and with ``anew`` in place of one that is not valid now.

        Raises ``StartFault`` for a file that is not a CA, and for a CA that is not valid now.
        """
        path = self.tls / "ca.key"
        if not path.exists():
            self._make_authority(path, clock)
        found = self._load_authority(path)
        if anew and why_not_valid(found.certificate, clock.now()):
            path.rename(path.with_name(f"ca-until-{clock.now()}.key"))
            self._make_authority(path, clock)
            found = self._load_authority(path)
        demand_valid(found, clock)
        return found

    @staticmethod
    def _make_authority(path: Path, clock: Clock) -> None:
        made = make_authority(clock.now())
        write_private(path, made.pem + render_key(made.key))

    @staticmethod
    def _load_authority(path: Path) -> Authority:
        try:
            return load_authority(path.read_bytes())
        except (OSError, ValueError) as error:
            raise StartFault(
                f"The CA in {path} cannot be read ({error}): restore the file from a backup. No other is made in its"
                " place, because devices trust the old one."
            ) from error

    def publish(self, authority: Authority) -> Path:
        """Write the CA's certificate for clients, if what is there differs; give its path."""
        if not self.ca_file.exists() or self.ca_file.read_bytes() != authority.pem:
            write_private(self.ca_file, authority.pem)
        return self.ca_file

    def serving(self, authority: Authority, names: tuple[str, ...], clock: Clock) -> tuple[Path, bool]:
        """Return the file of the server's certificate and key, and whether it was issued anew because that was due."""
        path = self.tls / "server.key"
        if path.exists():
            pem = path.read_bytes()
            if is_as_issued(pem) and not must_renew(Serving(pem, pem), authority, names, clock.now()):
                return path, False
        made = issue(authority, names, clock.now())
        write_private(path, made.pem + made.key_pem)
        return path, True

    def write_credentials(self, credentials: Credentials) -> None:
        """Write the operator's credentials file anew, whole."""
        write_private(self.credentials, msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")


def open_to_others(paths: Iterable[Path]) -> list[Path]:
    """Return those of the files and folders that others than their owner may read or write."""
    return [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]


def demand_valid(authority: Authority, clock: Clock) -> None:
    """Raise ``StartFault`` for a CA that is not valid now: whoever checks certificates would refuse all of its own."""
    why = why_not_valid(authority.certificate, clock.now())
    if why is not None:
        raise StartFault(
            f"The local CA is not valid now: {why}. Set this machine's clock, if that is wrong. Else the CA was made"
            " while the clock was wrong: restart with --new-ca, and give the new ca.pem to every device and program."
        )


def _lock_folder(folder: Path) -> int | None:
    """Lock a folder itself: somebody may take a lock file for one that was left behind, and remove it.

    Return the descriptor that holds it; ``None`` where the file system locks no folders (NFS). Raises
    ``BlockingIOError`` when another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole and durably: never half of it, whatever happens.

    Raises ``OSError`` that names the file.
    """
    try:
        _write_private(path, content)
    except OSError as error:
        error.filename = str(path)
        raise


def _write_private(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
