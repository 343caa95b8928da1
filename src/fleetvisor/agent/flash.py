"""NOR flash as a device sees it: sectors that erase to 0xff, units that are programmed once, and power that fails.

One linear address space (a microcontroller maps its internal and its external flash into one, too). A write
must start and end on a unit and may only touch units that read as erased; an erase takes a whole sector. Both
may be torn by a power cut: part of the bits have changed, and nothing tells which. Deliberately no wear
levelling, no bad blocks and no ECC: a worn sector shows up as ``FlashFault`` or as a hash that does not match.

``MemoryFlash`` grows with what is written (an absent sector is an erased one). ``FileFlash`` keeps the bytes
inverted, so that the holes of a sparse file are erased sectors.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

from fleetvisor.ground.clock import Entropy

Operation = Literal["write", "erase"]
Moment = Literal["before", "torn", "after"]
Strike = Callable[[Operation], Moment | None]


class FlashFault(Exception):
    """The flash did not do what it was told: misuse by the program, or a worn sector."""


class PowerCut(Exception):
    """The power went away during an operation on the flash; everything but the flash is lost."""


class Flash(Protocol):
    """A flash of ``size_bytes``, erased by ``sector_bytes``, programmed by ``unit_bytes``."""

    @property
    def sector_bytes(self) -> int:
        """Return the size of what is erased at once."""
        ...

    @property
    def unit_bytes(self) -> int:
        """Return the size of what is programmed at once."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes from ``start``."""
        ...

    def write(self, start: int, data: bytes) -> None:
        """Program ``data`` at ``start``: whole units that read as erased. Raises ``FlashFault`` and ``PowerCut``."""
        ...

    def erase(self, sector: int) -> None:
        """Set every byte of one sector to 0xff. Raises ``FlashFault`` and ``PowerCut``."""
        ...

    def sync(self) -> None:
        """Return when everything written so far would survive a loss of power."""
        ...


def _check(flash: Flash, size_bytes: int, start: int, data: bytes) -> None:
    if start % flash.unit_bytes or len(data) % flash.unit_bytes:
        raise FlashFault(f"a write of {len(data)} bytes at {start:#x} does not cover whole units")
    if start < 0 or start + len(data) > size_bytes:
        raise FlashFault(f"a write of {len(data)} bytes at {start:#x} leaves the flash")
    if flash.read(start, len(data)) != b"\xff" * len(data):
        raise FlashFault(f"a write of {len(data)} bytes at {start:#x} meets bytes that are not erased")


class MemoryFlash:
    """Flash in memory. ``strike`` is asked before every write and erase whether, and when, the power fails."""

    def __init__(self, size_bytes: int, *, sector_bytes: int = 4096, unit_bytes: int = 16) -> None:
        """Make an erased flash."""
        if size_bytes % sector_bytes or sector_bytes % unit_bytes:
            raise ValueError("a flash is made of whole sectors, and a sector of whole units")
        self.size_bytes = size_bytes
        self._sector_bytes = sector_bytes
        self._unit_bytes = unit_bytes
        self._sectors: dict[int, bytearray] = {}
        self._blank = b"\xff" * sector_bytes
        self.strike: Strike | None = None
        self.tear: Entropy | None = None

    @property
    def sector_bytes(self) -> int:
        """Return the size of what is erased at once."""
        return self._sector_bytes

    @property
    def unit_bytes(self) -> int:
        """Return the size of what is programmed at once."""
        return self._unit_bytes

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes from ``start``."""
        if start < 0 or start + size > self.size_bytes:
            raise FlashFault(f"a read of {size} bytes at {start:#x} leaves the flash")
        parts: list[bytes] = []
        while size:
            sector, offset = divmod(start, self._sector_bytes)
            length = min(size, self._sector_bytes - offset)
            parts.append(bytes(self._sectors.get(sector, self._blank)[offset : offset + length]))
            start += length
            size -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, start: int, data: bytes) -> None:
        """Program ``data`` at ``start``; a torn write programs some units, and some bits of the next."""
        _check(self, self.size_bytes, start, data)
        moment = self._strike("write")
        if moment == "torn":
            self._put(start, self._torn_write(data))
        elif moment != "before":
            self._put(start, data)
        if moment is not None:
            raise PowerCut(f"{moment} a write of {len(data)} bytes at {start:#x}")

    def erase(self, sector: int) -> None:
        """Erase one sector; a torn erase leaves a mixture of its old bytes and ones."""
        if not 0 <= sector < self.size_bytes // self._sector_bytes:
            raise FlashFault(f"sector {sector} is not of this flash")
        moment = self._strike("erase")
        if moment == "torn":
            old = self._sectors.get(sector, self._blank)
            self._sectors[sector] = bytearray(self._torn_erase(bytes(old)))
        elif moment != "before":
            self._sectors.pop(sector, None)
        if moment is not None:
            raise PowerCut(f"{moment} an erase of sector {sector}")

    def sync(self) -> None:
        """Do nothing: a write that returned is durable."""

    def _strike(self, operation: Operation) -> Moment | None:
        return None if self.strike is None else self.strike(operation)

    def _put(self, start: int, data: bytes) -> None:
        place = 0
        while place < len(data):
            sector, offset = divmod(start + place, self._sector_bytes)
            chunk = data[place : place + self._sector_bytes - offset]
            self._sectors.setdefault(sector, bytearray(self._blank))[offset : offset + len(chunk)] = chunk
            place += len(chunk)

    def _fraction(self) -> float:
        return 0.5 if self.tear is None else self.tear.fraction()

    def _noise(self, size: int) -> bytes:
        return b"\x55" * size if self.tear is None else self.tear.token(size)

    def _torn_write(self, data: bytes) -> bytes:
        unit = self._unit_bytes
        whole = int(self._fraction() * (len(data) // unit)) * unit
        part = data[whole : whole + unit]
        torn = bytes(byte | noise for byte, noise in zip(part, self._noise(len(part)), strict=True))
        return data[:whole] + torn + b"\xff" * (len(data) - whole - len(part))

    def _torn_erase(self, old: bytes) -> bytes:
        if self._fraction() < 0.5:
            done = int(self._fraction() * len(old))
            return b"\xff" * done + old[done:]
        return bytes(byte | noise for byte, noise in zip(old, self._noise(len(old)), strict=True))


_INVERT: Final = bytes(255 - value for value in range(256))


class FileFlash:
    """Flash in one sparse file, for an agent that runs as a process. One process at a time opens it."""

    def __init__(self, path: Path, size_bytes: int, *, sector_bytes: int = 4096, unit_bytes: int = 16) -> None:
        """Open ``path``, or make it, erased; raise ``FlashFault`` if it is in use, or of another size."""
        import fcntl

        self.size_bytes = size_bytes
        self._sector_bytes = sector_bytes
        self._unit_bytes = unit_bytes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise FlashFault(f"{path} is in use by another agent") from None
        found = os.fstat(self._file).st_size
        if found not in {0, size_bytes}:
            os.close(self._file)
            raise FlashFault(f"{path} has {found} bytes, not {size_bytes}: it was made with another geometry")
        os.ftruncate(self._file, size_bytes)
        os.fsync(self._file)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        self._dirty = False

    @property
    def sector_bytes(self) -> int:
        """Return the size of what is erased at once."""
        return self._sector_bytes

    @property
    def unit_bytes(self) -> int:
        """Return the size of what is programmed at once."""
        return self._unit_bytes

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes from ``start``."""
        if start < 0 or start + size > self.size_bytes:
            raise FlashFault(f"a read of {size} bytes at {start:#x} leaves the flash")
        return os.pread(self._file, size, start).translate(_INVERT)

    def write(self, start: int, data: bytes) -> None:
        """Program ``data`` at ``start``."""
        _check(self, self.size_bytes, start, data)
        self._put(start, data.translate(_INVERT))

    def erase(self, sector: int) -> None:
        """Erase one sector."""
        if not 0 <= sector < self.size_bytes // self._sector_bytes:
            raise FlashFault(f"sector {sector} is not of this flash")
        self._put(sector * self._sector_bytes, bytes(self._sector_bytes))

    def sync(self) -> None:
        """Flush to the disk what was written since the last time."""
        if self._dirty:
            os.fdatasync(self._file)
            self._dirty = False

    def close(self) -> None:
        """Flush, and let go of the file."""
        self.sync()
        os.close(self._file)

    def _put(self, start: int, data: bytes) -> None:
        self._dirty = True
        view = memoryview(data)
        while view:
            try:
                written = os.pwrite(self._file, view, start)
            except OSError as fault:
                raise FlashFault(f"the flash file cannot be written: {fault}") from fault
            start += written
            view = view[written:]
