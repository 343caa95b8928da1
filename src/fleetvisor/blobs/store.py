"""Bytes by name, through obstore: a local directory here, an object store later.

What ``put`` returned from is on the disk: obstore's LocalStore writes by rename or link and never fsyncs, so the
file and its directories are fsynced here, before the row that names them commits. Deliberately no meaning: names
and their life are ``features/apps``'s. What blocks for a disk goes through ``offload``.
"""

import contextlib
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from fleetvisor.ground.offload import Offload

_BLOCK: Final = 1 << 20

Fsync = Callable[[int], None]


class BlobFault(Exception):
    """The blob store could not do what was asked."""


class Blobs:
    """The blob store in one local directory, which several nodes may share."""

    def __init__(self, directory: Path, *, offload: Offload, fsync: Fsync = os.fsync) -> None:
        """Use ``directory``, made if it is not there; ``fsync`` is counted by a test."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._offload = offload
        self._fsync = fsync
        self._store = LocalStore(prefix=str(directory), automatic_cleanup=False)

    async def put(self, name: str, source: Path, *, digest: str, size_bytes: int) -> None:
        """Put the file ``source`` under ``name``, durably. Idempotent.

        What is already there under the name counts only when its size and SHA-256 (``digest``, hex) are right: an
        earlier process may have died, or the power gone, before its bytes reached the disk. Else it is replaced.
        Raises ``BlobFault``.
        """
        await self._offload(lambda: self._put(name, source, digest, size_bytes))

    async def get(self, name: str, start: int, end: int) -> bytes:
        """Read the bytes from ``start`` up to ``end``. Raises ``BlobFault`` when they are not there."""
        return await self._offload(lambda: self._get(name, start, end))

    async def delete(self, name: str) -> None:
        """Remove a blob; one that is not there is removed already."""
        await self._offload(lambda: self._delete(name))

    async def exists(self, name: str) -> bool:
        """Tell whether there is a blob of this name."""
        return await self._offload((self._directory / name).exists)

    def clear_leftovers(self) -> int:
        """Remove what writes that never ended left behind; give how many. Called at start, before any put."""
        count = 0
        for path in self._directory.rglob("*#*"):
            path.unlink(missing_ok=True)
            count += 1
        return count

    def _put(self, name: str, source: Path, digest: str, size_bytes: int) -> None:
        try:
            with source.open("rb") as file:
                try:
                    self._store.put(name, file, mode="create")
                except AlreadyExistsError:
                    if not self._is(name, digest, size_bytes):
                        file.seek(0)
                        self._store.put(name, file, mode="overwrite")
            self._sync(name)
        except OSError as error:
            raise BlobFault(f"cannot store {name}: {error}") from error

    def _get(self, name: str, start: int, end: int) -> bytes:
        try:
            return bytes(self._store.get_range(name, start=start, end=end))
        except (OSError, ValueError) as error:
            raise BlobFault(f"cannot read {name}: {error}") from error

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._store.delete(name)

    def _is(self, name: str, digest: str, size_bytes: int) -> bool:
        path = self._directory / name
        if path.stat().st_size != size_bytes:
            return False
        found = sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
        return found.hexdigest() == digest

    def _sync(self, name: str) -> None:
        """Fsync the file, then each directory from its own up to the store's."""
        path = self._directory / name
        self._sync_one(path)
        for folder in path.parents:
            self._sync_one(folder)
            if folder == self._directory:
                return

    def _sync_one(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)
