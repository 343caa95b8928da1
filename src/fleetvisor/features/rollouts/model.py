"""What a rollout, its waves, its counts and its decisions are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from fleetvisor.features.rollouts.guard import Evidence
from fleetvisor.features.updates.model import MemberState
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid, RolloutSid
from fleetvisor.protocol.guard_settings import GuardSettings

RolloutState = Literal["draft", "scheduled", "starting", "running", "paused", "stopped", "aborted", "completed"]
FINISHED: Final = frozenset({"stopped", "aborted", "completed"})
Kind = Literal["release", "rollback"]
#: What makes a device known, so that it counts as evidence: made before the start, before a date, or nothing.
KnownBy = Literal["start", "date", "none"]
Action = Literal["start", "pause", "resume", "abort", "retry", "release"]
SCALE: Final = 1 << 53


class Rollout(msgspec.Struct, frozen=True):
    """One app (or, to roll back, each device's previous one) offered to a selection of devices, in waves.

    ``wave`` is the open one, from 1; 0 before the start. ``version`` counts the steps of the rollout itself.
    ``starts_per_minute`` and ``concurrent_max`` of 0 mean no limit. ``date_paid``: until when starts are paid for.
    ``known_since``: devices made before it count as evidence, where ``known_by`` says so.
    ``removing``: nobody sees it any more, and its rows are on their way out.
    """

    rollout_sid: RolloutSid
    account_sid: AccountSid
    friendly_name: str
    kind: Kind
    app_sid: AppSid | None
    rollback_of: RolloutSid | None
    selector: str
    state: RolloutState
    guard: GuardSettings
    known_by: KnownBy
    known_since: Millis | None
    concurrent_max: int
    starts_per_minute: int
    wave: int
    version: int
    scan_created: Millis | None
    scan_sid: str | None
    date_scanned: Millis | None
    date_paid: Millis
    date_retry: Millis | None
    canceling: bool
    removing: bool
    date_start: Millis | None
    date_started: Millis | None
    date_ended: Millis | None
    date_created: Millis
    date_updated: Millis


class Wave(msgspec.Struct, frozen=True):
    """A step of a rollout: the devices whose place lies under ``threshold`` (of 2^53), and not under the one before.

    ``percent_ppm`` or ``devices`` says how far it goes, cumulatively. ``date_offered``: every device was offered the
    app; ``date_settled``: and every device is decided.
    """

    position: int
    percent_ppm: int | None
    devices: int | None
    threshold: int | None
    date_opened: Millis | None
    date_offered: Millis | None
    date_settled: Millis | None
    date_released: Millis | None


class WaveSize(msgspec.Struct, frozen=True):
    """How far a wave goes, cumulatively: a share in millionths, or a number of devices."""

    percent_ppm: int | None
    devices: int | None


class Draft(msgspec.Struct, frozen=True):
    """What a new rollout is to be."""

    kind: Kind
    app: str | None
    rollback_of: str | None
    selector: str
    friendly_name: str
    waves: tuple[WaveSize, ...]
    guard: GuardSettings
    concurrent_max: int
    starts_per_minute: int
    known_since: Millis | None = None


Counts = Mapping[int, Mapping[MemberState, int]]


class CountRow(msgspec.Struct, frozen=True):
    """How many devices of a wave are in a state, of those that are evidence or of the others.

    ``removed``: how many of them were removed since.
    """

    wave: int
    state: MemberState
    evidence: bool
    count: int
    removed: int


class Counted(msgspec.Struct, frozen=True):
    """The devices of a rollout by wave and state, what of them is evidence, and how many of them were removed since."""

    counts: Counts
    evidence: Evidence
    removed: int = 0

    @classmethod
    def of(cls, rows: Iterable[CountRow]) -> "Counted":
        """Add up the rows of one rollout."""
        counts: dict[int, dict[MemberState, int]] = {}
        seen: Counter[MemberState] = Counter()
        uncounted = removed = 0
        for row in rows:
            here = counts.setdefault(row.wave, {})
            here[row.state] = here.get(row.state, 0) + row.count
            removed += row.removed
            if row.evidence or row.state == "offline":
                seen[row.state] += row.count
            elif row.state in {"succeeded", "failed", "silent"}:
                uncounted += row.count
        evidence = Evidence(seen["succeeded"], seen["failed"], seen["silent"], seen["offline"], uncounted)
        return cls(counts, evidence, removed)


class Ruling(msgspec.Struct, frozen=True):
    """A decision as it is kept; ``data`` is a JSON object of the numbers that it stood on."""

    number: int
    wave: int
    verdict: str
    code: str
    sentence: str
    data: str
    date_created: Millis


class View(msgspec.Struct, frozen=True):
    """A rollout with all that the API shows of it: ``ruling`` is the newest decision; ``damaged``: its app is."""

    rollout: Rollout
    waves: tuple[Wave, ...]
    counted: Counted
    ruling: Ruling | None
    damaged: bool = False


class Penalty(msgspec.Struct, frozen=True):
    """How often a device failed an app, and whether that holds it back from rollouts of it."""

    device_sid: DeviceSid
    app_sid: AppSid
    failures: int
    held: bool
    date_failed: Millis
