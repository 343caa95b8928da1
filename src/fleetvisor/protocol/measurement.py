"""The measurement of a layer: the hash of its whole flash region after install.

What the bytes leave of the region is erased flash, ``0xff``. Deliberately checks no bounds: whoever measures has
proved that the region is one of a real flash, so that the padding cannot take for ever. Spec: the Microvisor API
reference, section 6 (``measurement_hash``).
"""

from typing import Final, Protocol, Self

_PAD: Final = b"\xff" * (64 << 10)


class Sha256(Protocol):
    """A running SHA-256, as ``hashlib`` makes it."""

    def copy(self) -> Self:
        """Return a hash that goes on from the same bytes."""
        ...

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far."""
        ...


def measure(content: Sha256, size_bytes: int, region_size: int) -> str:
    """Return the hex measurement of a region whose first ``size_bytes`` went into ``content``, which stays as it is."""
    measured = content.copy()
    left = region_size - size_bytes
    while left > 0:
        measured.update(_PAD[:left])
        left -= len(_PAD)
    return measured.hexdigest()
