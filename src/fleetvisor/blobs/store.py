"""Bytes by name, through obstore: a local directory here, an object store later.

What ``put_file`` returned from is on the disk: obstore's LocalStore writes by rename or link and never fsyncs, so the
file and its directories are fsynced here, before the row that names them commits. Deliberately no meaning: names
and their life are ``features/apps``'s. Each name is given to one content only; what blocks for a disk goes through
``offload``.
"""

import os
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Final

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from fleetvisor.ground.clock import Millis
from fleetvisor.ground.disk import SENTENCES, Condition, Fault, fault_of, probe
from fleetvisor.ground.offload import Offload

Fsync = Callable[[int], None]

_STAGED: Final = "*#*"  # LocalStore writes NAME#1, then renames or links it to NAME
_PART_BYTES: Final = 1 << 20
_FAULTS: Final = (OSError, ValueError, BaseError)


class BlobFault(Exception):
    """The blob store could not do what was asked."""


class BlobsUnfit(BlobFault):
    """The disk below the blob store is full, read-only or failing."""

    def __init__(self, fault: Fault, reason: str) -> None:
        """Keep which of these it is."""
        super().__init__(f"{reason}. {SENTENCES[fault]}")
        self.fault: Fault = fault


class Blobs:
    """The blob store in one local directory, which several nodes may share."""

    def __init__(
        self, directory: Path, *, offload: Offload, writing: Offload | None = None, fsync: Fsync = os.fsync
    ) -> None:
        """Use ``directory``, made (durably) if it is not there; tests pass an ``fsync`` of their own.

        What changes the store goes through ``writing``, so that no read waits for it; without one, through ``offload``.
        """
        self._directory = directory.absolute()
        self._offload = offload
        self._writing = writing or offload
        self._fsync = fsync
        self._condition = Condition()
        missing = [folder for folder in (self._directory, *self._directory.parents) if not folder.exists()]
        self._directory.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            self._sync(folder.parent)
        self._store = LocalStore(prefix=str(self._directory), automatic_cleanup=False)

    async def put_file(self, name: str, source: Path, *, digest: str, size_bytes: int) -> None:
        """Put the file ``source`` under ``name``, durably. Idempotent.

        What is already there under the name counts only when its size and SHA-256 (``digest``, hex) are right: an
        earlier process may have died, or the power gone, before its bytes reached the disk. Else it is replaced.
        Raises ``BlobFault``.
        """
        await self._writing(lambda: self._put(name, source, digest, size_bytes))

    @property
    def degraded(self) -> Fault | None:
        """What is wrong with the disk, until a write succeeds; may be read on any thread."""
        return self._condition.fault

    async def probe(self) -> None:
        """Look whether the directory can be written, for ``degraded``. Raises ``OSError`` when it is not there."""
        fault: Fault | None = await self._offload(lambda: probe(self._directory))
        if fault is None:
            self._condition.wrote()
        self._condition.note(fault)

    def _fault(self, what: str, error: Exception) -> BlobFault:
        """Translate an error of obstore or of the system, and note what it says of the disk."""
        disk, reason = fault_of(error), f"cannot {what}: {_reason(error)}"
        self._condition.note(disk)
        return BlobFault(reason) if disk is None else BlobsUnfit(disk, reason)

    async def get_range(self, name: str, start: int, end: int) -> bytes:
        """Read the bytes from ``start`` to before ``end``. Raises ``BlobFault`` when they are not all there."""
        return await self._offload(lambda: self._get(name, start, end))

    async def delete(self, name: str) -> None:
        """Remove a blob, durably; one that is not there is removed already. Raises ``BlobFault``."""
        await self._writing(lambda: self._delete(name))

    async def exists(self, name: str) -> bool:
        """Tell whether there is a blob of this name."""
        return await self._offload((self._directory / name).exists)

    def clear_leftovers(self, before: Millis | None = None) -> int:
        """Remove what writes that never ended left behind; give how many. Called at start, before any put.

        Where other nodes share the directory, ``before`` spares what was written later: it may be a put under way.
        """
        count = 0
        for path in self._directory.rglob(_STAGED):
            try:
                if before is None or path.stat().st_mtime * 1000 < before:
                    path.unlink()
                    count += 1
            except FileNotFoundError:  # another node ended its put, or clears as well
                continue
        return count

    def _put(self, name: str, source: Path, digest: str, size_bytes: int) -> None:
        try:
            if not self._holds(name, digest, size_bytes):
                with source.open("rb") as file:
                    # In parts, because obstore reads a file into memory that it puts in one piece.
                    self._store.put(name, file, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=2)
            self._sync(self._directory / name)
            self._sync_folders(name)
            self._condition.wrote()
        except _FAULTS as error:
            raise self._fault(f"store {name}", error) from error

    def _get(self, name: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        try:
            data = bytes(self._store.get_range(name, start=start, end=end))
        except _FAULTS as error:
            raise self._fault(f"read {name}", error) from error
        if len(data) != end - start:
            raise BlobFault(f"cannot read {name}: it ends {end - start - len(data)} bytes too early")
        return data

    def _delete(self, name: str) -> None:
        try:
            self._store.delete(name)
            self._sync((self._directory / name).parent)
        except FileNotFoundError:
            return
        except _FAULTS as error:
            raise self._fault(f"remove {name}", error) from error

    def _holds(self, name: str, digest: str, size_bytes: int) -> bool:
        path = self._directory / name
        if not path.exists() or path.stat().st_size != size_bytes:
            return False
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == digest

    def _sync_folders(self, name: str) -> None:
        """Fsync each folder from the blob's own up to the store's: any of them may be new, whoever made it."""
        for folder in (self._directory / name).parents:
            self._sync(folder)
            if folder == self._directory:
                return

    def _sync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    """Give obstore's sentence without the dump of its own structures below it."""
    return str(error).split("\n", 1)[0]
