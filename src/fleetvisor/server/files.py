"""The data directory: who holds it, its keys, its certificates, and the operator's credentials file.

Every private file is 0600 and written whole: temporary file, fsync, rename, fsync of the directory. Deliberately
knows no service. Spec: ``docs/explanation/keys-and-certificates.md``.
"""

import contextlib
import fcntl
import json
import os
import re
from pathlib import Path
from typing import Final

from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.pki.ca import Authority, load_authority, make_authority, render_key
from fleetvisor.pki.seal import KEY_BYTES
from fleetvisor.pki.serving import issue, must_renew

_SEAL_NAME: Final = re.compile(r"seal-(\d+)\.key")


class StartFault(Exception):
    """The server cannot start; the message says why and what to do."""


class DataDirectory:
    """``DIR`` of ``fleetvisor serve --data DIR``, made 0700 at first start."""

    def __init__(self, root: Path) -> None:
        """Make the directory and its folders. Raises ``StartFault``."""
        self.root = root.absolute()
        try:
            for folder in (self.root, self.keys, self.tls, self.spool):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartFault(f"The data directory {self.root} cannot be made: {error.strerror}.") from error
        self._lock: int | None = None

    @property
    def keys(self) -> Path:
        """Where the sealing keys lie."""
        return self.root / "keys"

    @property
    def tls(self) -> Path:
        """Where the CA and the server certificate lie."""
        return self.root / "tls"

    @property
    def spool(self) -> Path:
        """Where uploads are on their way."""
        return self.root / "spool"

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

    def hold(self) -> None:
        """Take the lock until this process ends. Raises ``StartFault`` naming who holds it."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StartFault(
                f"Another server (process {holder}) serves {self.root}: stop it, or give another --data."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear_spool(self) -> None:
        """Remove what uploads of an earlier process left behind."""
        for path in self.spool.iterdir():
            path.unlink(missing_ok=True)

    def seal_keys(self) -> list[Path]:
        """Give the sealing keys' files, the one with the highest number first."""
        found = [(int(match[1]), path) for path in self.keys.iterdir() if (match := _SEAL_NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def make_seal_key(self, entropy: Entropy) -> Path:
        """Make the next sealing key, which seals from the next loading on."""
        numbers = [int(path.stem.removeprefix("seal-")) for path in self.seal_keys()]
        path = self.keys / f"seal-{max(numbers, default=0) + 1}.key"
        write_private(path, entropy.token(KEY_BYTES))
        return path

    def authority(self, clock: Clock) -> Authority:
        """Give the local CA, made at first start. Raises ``StartFault`` for files that are not a CA."""
        pem, key = self.tls / "ca.pem", self.tls / "ca.key"
        if not pem.exists():
            made = make_authority(clock.now())
            write_private(key, render_key(made.key))
            write_private(pem, made.pem)
        try:
            return load_authority(pem.read_bytes(), key.read_bytes())
        except (OSError, ValueError) as error:
            raise StartFault(f"The CA in {self.tls} cannot be read: {error}. Restore ca.pem and ca.key.") from error

    def publish_ca(self, authority: Authority) -> None:
        """Write the CA's certificate where clients find it."""
        if not self.ca_file.exists() or self.ca_file.read_bytes() != authority.pem:
            write_private(self.ca_file, authority.pem)
        self.ca_file.chmod(0o644)

    def serving(self, authority: Authority, names: list[str], clock: Clock) -> tuple[Path, Path, bool]:
        """Give the server certificate's files, issued anew when that is due, and whether it was."""
        pem, key = self.tls / "server.pem", self.tls / "server.key"
        due = not (pem.exists() and key.exists()) or must_renew(pem.read_bytes(), authority, names, clock.now())
        if due:
            serving = issue(authority, names, clock.now())
            write_private(key, serving.key_pem)
            write_private(pem, serving.pem)
        return pem, key, due

    def write_credentials(
        self, *, base_url: str, account_sid: str, auth_token: str, ca_file: Path | None, local_url: str
    ) -> None:
        """Write the operator's credentials file anew, whole."""
        body = {
            "base_url": base_url,
            "account_sid": account_sid,
            "auth_token": auth_token,
            "ca_file": str(ca_file) if ca_file else None,
            "local_url": local_url,
        }
        write_private(self.credentials, json.dumps(body, indent=2).encode() + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole and durably: never half of it, whatever happens."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
