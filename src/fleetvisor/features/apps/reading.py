"""The reading of one uploaded file, and the port to where that is done.

``read`` is the work: it tells the file's kind, proves it, and spools the layers of a bundle. A server does it in a
process of its own (``server/parsing``), since only the end of its process stops a parser that hangs; the simulator and
unit tests do it in their own process. Deliberately stores nothing beyond the spool.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetvisor.features.apps import rules
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.offload import Offload
from fleetvisor.ground.sids import AccountSid
from fleetvisor.protocol.bundle import ParsedBundle, parse
from fleetvisor.protocol.images import Kind, ParsedImage, recognise
from fleetvisor.protocol.images import parse as parse_image

Parsed = ParsedBundle | ParsedImage


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read. ``folder`` is made for the layers of a bundle; the caller removes it with what is in it."""

    file: Path
    asked: Kind | None
    folder: Path


class Reader(Protocol):
    """Reads uploads where they hold nobody up."""

    async def __call__(self, account_sid: AccountSid, reading: Reading) -> Parsed:
        """Read a file of this account. Raises what ``read`` raises, and ``Unavailable``.

        Nothing is written into the folder any more once this returned or raised.
        """
        ...


def read(reading: Reading, limits: Limits) -> Parsed:
    """Read and prove a file. Blocks. Raises ``Invalid``, ``TooLarge``, ``OSError``."""
    kind = rules.check_kind(recognise(reading.file), reading.asked)
    if kind != "bundle":
        return parse_image(reading.file, kind, limits)
    reading.folder.mkdir()
    with reading.file.open("rb") as source:
        return parse(source, reading.folder, limits)


class Inline:
    """Reads in this process: the ``Reader`` of the simulator and of tests, which trust what they upload."""

    def __init__(self, offload: Offload, limits: Limits) -> None:
        """Read through ``offload``."""
        self._offload = offload
        self._limits = limits

    async def __call__(self, account_sid: AccountSid, reading: Reading) -> Parsed:  # noqa: ARG002  (all are alike here)
        """Read a file."""
        return await self._offload(lambda: read(reading, self._limits))
