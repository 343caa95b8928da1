"""Where log lines are written: a stream that never raises and never holds anybody up; what is lost is counted.

A full disk, a closed stream, or a reader that reads no more (a full pipe) costs lines, never the work that they tell
of. Spec: ``docs/reference/metrics.md`` (``fleetvisor_log_lines_lost_total``).
"""

import os
import select
import stat
from typing import Final, TextIO

_PIECE: Final = 512  # POSIX's least PIPE_BUF: a pipe that polls as writable takes so much without waiting
_PATIENCE_MS: Final = 200


class Sink:
    """A text stream for log lines. ``lost`` counts the lines that could not be written."""

    def __init__(self, stream: TextIO) -> None:
        """Write to the stream's descriptor where it has one, else to the stream."""
        self.lost = 0
        self._stream = stream
        self._torn = False
        self._stuck = False
        self._descriptor: int | None = None
        self._waits = False
        try:
            self._descriptor = stream.fileno()
            self._waits = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        except (OSError, ValueError, AttributeError):
            self._descriptor = None

    def write(self, text: str) -> int:
        """Write whole lines, or count them as lost. Never raises."""
        try:
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._write(self._descriptor, text.encode("utf-8", "backslashreplace"))
        except (OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: there is no stream
            self.lost += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: ``write`` has written."""

    def _write(self, descriptor: int, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            piece = view
            if self._waits:
                self._wait(descriptor)
                piece = view[:_PIECE]
            count = os.write(descriptor, piece)
            self._torn = count < len(view) or not data.endswith(b"\n")
            view = view[count:]

    def _wait(self, descriptor: int) -> None:
        """Wait a moment for a reader, unless it did not read the last time. Raises ``BlockingIOError``."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._stuck = not poll.poll(0 if self._stuck else _PATIENCE_MS)
        if self._stuck:
            raise BlockingIOError("nobody reads the log")
