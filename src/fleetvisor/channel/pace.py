"""How much memory the downloads under way may take, and how slowly a device may read one.

The HTTP server waits for the writer, but keeps a few pieces of each download before it does. Deliberately no device
and no content: ``channel/download`` says what is sent.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from fleetvisor.channel.layers import CHUNK_BYTES
from fleetvisor.ground.clock import Clock
from fleetvisor.ground.errors import Unavailable
from fleetvisor.ground.limits import Limits
from fleetvisor.web.requests import Send

UNDER_WAY_BYTES: Final = 9 * CHUNK_BYTES  # measured: what the HTTP server holds for one that does not read
_RETRY_S: Final = 10


class TooSlow(Exception):
    """A device reads its download too slowly."""


class Pace:
    """The bounds of downloads that are sent in pieces."""

    def __init__(self, *, clock: Clock, limits: Limits) -> None:
        """Begin with none under way."""
        self._clock = clock
        self._limits = limits
        self._bytes = 0

    @property
    def size_bytes(self) -> int:
        """How many bytes the downloads under way may take at this moment."""
        return self._bytes

    @contextmanager
    def place(self) -> Generator[None]:
        """Keep memory for one download. Raises ``Unavailable`` when there is none left."""
        if self._bytes + UNDER_WAY_BYTES > self._limits.downloads_bytes_max:
            raise Unavailable("Too many downloads are under way.", retry_after_s=_RETRY_S)
        self._bytes += UNDER_WAY_BYTES
        try:
            yield
        finally:
            self._bytes -= UNDER_WAY_BYTES

    async def send(self, send: Send, message: dict[str, Any]) -> None:
        """Send a piece when there is room for it. Raises ``TooSlow`` when the device makes none in time.

        Room comes in whole pieces, so the time is what a piece takes at the least rate.
        """
        least = self._limits.download_bytes_min
        time_s = self._limits.download_window_s * max(1.0, CHUNK_BYTES / least) if least else None
        try:
            async with self._clock.timeout(time_s):
                await send(message)
        except TimeoutError as error:
            raise TooSlow(f"fewer than {CHUNK_BYTES} bytes were read in {time_s:.0f} seconds") from error
