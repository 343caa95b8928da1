"""The ``Date`` header: a device without a clock gets its time from every answer (RFC 9110, section 6.6.1).

Made here and not left to the HTTP server, so that it is there whatever serves us. Deliberately once a second only.
"""

from email.utils import formatdate

from fleetvisor.ground.clock import Millis
from fleetvisor.web.answers import Header


class DateHeader:
    """Renders the header of a moment, and keeps it for as long as it stays true."""

    __slots__ = ("_header", "_second")

    def __init__(self) -> None:
        """Start with the epoch."""
        self._second = 0
        self._header: Header = (b"date", formatdate(0, usegmt=True).encode())

    def at(self, now: Millis) -> Header:
        """Return the header for ``now``."""
        second = now // 1000
        if second != self._second:
            self._header = (b"date", formatdate(second, usegmt=True).encode())
            self._second = second
        return self._header
