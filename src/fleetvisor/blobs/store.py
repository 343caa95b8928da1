"""Bytes by name, through obstore: a local directory here, an object store later.

What ``put_file`` returned from is on the disk: obstore's LocalStore writes by rename or link and never fsyncs, so the
file and its directories are fsynced here, before the row that names them commits. What is read whole is proved by its
SHA-256. Deliberately no meaning: names and their life are ``features/apps``'s. Each name is given to one content only;
what blocks for a disk goes through ``offload``.
"""

import os
from collections.abc import Callable, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final, NamedTuple

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


class BlobDamaged(BlobFault):
    """A blob is not there, or its bytes are not those that were stored."""


class BlobMark(NamedTuple):
    """What changes when somebody writes a file anew: how a blob is recognised that was proved before."""

    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


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

    async def get_whole(self, name: str, *, digest: str, size_bytes: int) -> bytes:
        """Read a blob and prove it. Raises ``BlobDamaged`` for one that is not what was stored, ``BlobFault``."""
        return await self._offload(lambda: self._get_whole(name, digest, size_bytes))

    async def prove(self, name: str, *, digest: str, size_bytes: int) -> bool:
        """Read a blob piece by piece; return whether it is there and is what was stored. Raises ``BlobFault``."""
        return await self._offload(lambda: self._prove(name, digest, size_bytes))

    async def check_size(self, name: str, size_bytes: int) -> None:
        """Raise ``BlobDamaged`` unless a blob of this size is there; ``BlobFault`` when no blob at all is there."""
        await self._offload(lambda: self._check_size(name, size_bytes))

    async def mark(self, name: str) -> BlobMark | None:
        """Return the mark of a blob's file; ``None`` when it is not there. Raises ``BlobFault``."""
        return await self._offload(lambda: self._mark(name))

    async def is_lost(self, names: Sequence[str]) -> bool:
        """Return whether none of these blobs is there: then the directory is empty, new, or another one."""
        return bool(names) and await self._offload(lambda: not any((self._directory / name).exists() for name in names))

    async def delete(self, name: str) -> None:
        """Remove a blob, durably; one that is not there is removed already. Raises ``BlobFault``."""
        await self._writing(lambda: self._delete(name))

    async def exists(self, name: str) -> bool:
        """Return whether there is a blob of this name."""
        return await self._offload((self._directory / name).exists)

    def clear_leftovers(self, before: Millis | None = None) -> int:
        """Remove what writes that never ended left behind; return how many. Called at start, before any put.

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
            raise BlobDamaged(f"cannot read {name}: it ends {end - start - len(data)} bytes too early")
        return data

    def _check_size(self, name: str, size_bytes: int) -> None:
        mark = self._mark(name)
        if mark is None or mark.size_bytes != size_bytes:
            raise self._damage(name, mark, size_bytes)

    def _get_whole(self, name: str, digest: str, size_bytes: int) -> bytes:
        self._check_size(name, size_bytes)
        data = self._get(name, 0, size_bytes)
        if sha256(data).hexdigest() != digest:
            raise BlobDamaged(f"the bytes of {name} do not have its SHA-256")
        return data

    def _damage(self, name: str, mark: BlobMark | None, size_bytes: int) -> BlobFault:
        """Return what is wrong with a blob by its file; while no blob at all is there, nothing is said of this one."""
        if mark is not None:
            return BlobDamaged(f"{name} has {mark.size_bytes} bytes in place of {size_bytes}")
        folder = self._directory / Path(name).parts[0]
        if not folder.is_dir() or not any(folder.iterdir()):
            return BlobFault(f"cannot read {name}: {self._directory} holds no blobs; is it mounted?")
        return BlobDamaged(f"{name} is missing")

    def _mark(self, name: str) -> BlobMark | None:
        try:
            found = (self._directory / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._fault(f"read {name}", error) from error
        return BlobMark(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _prove(self, name: str, digest: str, size_bytes: int) -> bool:
        try:
            return self._holds(name, digest, size_bytes)
        except OSError as error:
            raise self._fault(f"read {name}", error) from error

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
    """Return obstore's sentence without the dump of its own structures below it."""
    return str(error).split("\n", 1)[0]
