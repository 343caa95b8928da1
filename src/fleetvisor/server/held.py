"""Bytes that were judged, held as files that nobody can change: what was tried is what is served.

The files of an operator may be replaced at any moment, also between their trial and their use, and the TLS library
ends the process when it cannot use what it reads. So the bytes that were read are held in memory, and everyone who
judges or uses them reads these. A private key that lies on no disk comes to lie on none by this.
"""

import contextlib
import os
import tempfile
from pathlib import Path, PosixPath
from typing import Final

DESCRIPTORS: Final = Path("/proc/self/fd")


class HeldPath(PosixPath):
    """A path whose target has no name of its own: Granian resolves what it is given."""

    def resolve(self, strict: bool = False) -> "HeldPath":  # noqa: ARG002  (as pathlib has it)
        """Return the path as it is."""
        return self


class Held:
    """Some files' bytes, each behind a path that reads the same for as long as this is not closed."""

    def __init__(self, *contents: bytes, folder: Path = DESCRIPTORS) -> None:
        """Hold the contents in memory, or in a directory of this process's user alone.

        ``folder``: where the system shows open descriptors as files. Where it is missing, nothing is held in memory.
        """
        self._end = contextlib.ExitStack()
        self.descriptors: tuple[int, ...] = ()
        try:
            if hasattr(os, "memfd_create") and folder.is_dir():
                self.descriptors = tuple(self._in_memory(content) for content in contents)
                self.paths = tuple(HeldPath(folder, str(number)) for number in self.descriptors)
            else:
                self.paths = self._in_directory(contents)
        except BaseException:
            self._end.close()
            raise

    def close(self) -> None:
        """Let go of the bytes."""
        self._end.close()

    def _in_memory(self, content: bytes) -> int:
        number = os.memfd_create("held", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._end.callback(os.close, number)
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        return number

    def _in_directory(self, contents: tuple[bytes, ...]) -> tuple[HeldPath, ...]:
        folder = Path(self._end.enter_context(tempfile.TemporaryDirectory(prefix="fleetvisor-")))
        paths = tuple(HeldPath(folder, str(place)) for place in range(len(contents)))
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths
