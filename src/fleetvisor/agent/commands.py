"""What the core asks of its surroundings, and what these answer: the whole vocabulary of the sans-IO agent.

One command is under way at a time, and each is answered by one event: a microcontroller does one thing at a time,
too. Deliberately no behaviour.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from fleetvisor.agent.state import Record
from fleetvisor.protocol.native import Desired, FlashLayer, Report

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Poll:
    """Ask for the desired state; hold for ``wait_s`` if it still has ``etag``. Answer: Polled, Unchanged, Failure."""

    etag: str | None
    wait_s: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get bytes ``start`` to ``end`` (exclusive) of a layer. Answer: Fetched, Failure."""

    sha256: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FetchManifest:
    """Get a whole manifest. Answer: Fetched, Failure."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a report. Answer: Taken, Failure."""

    report: Report


@dataclass(frozen=True, slots=True)
class Keep:
    """Make a record durable. Answer: Done."""

    record: Record


@dataclass(frozen=True, slots=True)
class Program:
    """Fill ``count`` sectors of the inactive slot with ``data`` and then 0xff. Answer: Done, FlashBroken."""

    sector: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Verify:
    """Read the inactive slot back and compare both hashes of each layer. Answer: Checked, FlashBroken."""

    layers: tuple[FlashLayer, ...]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Ask the app on trial whether it is well. Answer: Checked."""

    manifest: str


@dataclass(frozen=True, slots=True)
class AskLeave:
    """Ask the running app whether it may be replaced now. Answer: Checked."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Let ``delay_s`` seconds pass. Answer: Done."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Reboot:
    """Start again from the journal; this core is never answered again."""

    reason: str


Command = Poll | Fetch | FetchManifest | Tell | Keep | Program | Verify | SelfTest | AskLeave | Wait | Reboot


@dataclass(frozen=True, slots=True)
class Boot:
    """The first event: the bootloader has chosen."""


@dataclass(frozen=True, slots=True)
class Done:
    """It was done."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The desired state, and its ETag."""

    desired: Desired
    etag: str | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The desired state still has the ETag; ask again no sooner than after ``retry_after_s``, if given."""

    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes asked for, all of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """The report was acknowledged; ``taken`` is false when the server knows a newer one."""

    taken: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """No use came of a request. ``status`` is the answer's, or ``None`` when there was no whole answer."""

    status: int | None
    detail: str
    retry_after_s: int | None = None

    @property
    def refused(self) -> bool:
        """Return whether the server understood and says no, so that the same request would fail again."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in {401, 403, 408, 425, 429}

    @property
    def unproven(self) -> bool:
        """Return whether the server does not accept who we are."""
        return self.status in {401, 403}


@dataclass(frozen=True, slots=True)
class Checked:
    """A yes or a no."""

    good: bool


@dataclass(frozen=True, slots=True)
class FlashBroken:
    """The flash could not be written or read."""

    detail: str


Event = Boot | Done | Polled | Unchanged | Fetched | Taken | Failure | Checked | FlashBroken
Script = Generator[Command, Event, T]


class Unexpected(Exception):
    """An event that does not answer the command: the driver is wrong."""
