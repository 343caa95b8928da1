"""What becomes of a device in a rollout: taken, left out for a reason, left to a newer instruction, or not its own.

Pure. Planning, offering and explaining all ask here, so that they say the same. Spec: ``docs/reference/rollouts.md``.
"""

from typing import Final, Literal

import msgspec

from fleetvisor.features.apps.model import App
from fleetvisor.features.apps.rules import lowers_counter
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates.model import MemberState
from fleetvisor.ground.clock import Millis

SkipReason = Literal[
    "hardware", "security_counter", "penalty", "disabled", "waiting", "damaged", "previous_unknown", "previous_removed"
]
TAKEN_BACK: Final[tuple[MemberState, ...]] = ("updating", "offline", "silent", "succeeded", "failed", "canceled")
"""The states of the devices that a rollback takes back: those whose target the other rollout changed."""


class Source(msgspec.Struct, frozen=True):
    """What became of a device in the rollout that a rollback takes back, and what it ran before."""

    state: str
    previous_sid: str | None


class Subject(msgspec.Struct, frozen=True):
    """A device, as far as a rollout cares.

    ``counter``: the security counter of the app that it runs; ``None`` where there is none to keep. ``instructed_by``:
    the rollout that set its target, ``None`` where nobody did or it was set directly. ``failures``: how often it failed
    the app in question. ``source``: for a rollback.
    """

    access: str
    hardware_class: str | None
    counter: int | None
    instructed_by: str | None
    date_instructed: Millis | None
    failures: int = 0
    source: Source | None = None


class Fate(msgspec.Struct, frozen=True):
    """What becomes of a device.

    ``take``: it is offered the app, or runs it already. ``skip``: it is left out for ``reason``; it may be taken later.
    ``left``: a newer instruction has it. ``other``: the rollout is not about it.
    """

    outcome: Literal["take", "skip", "left", "other"]
    reason: SkipReason | None = None


TAKE: Final = Fate("take")
LEFT: Final = Fate("left")
OTHER: Final = Fate("other")


def app_sid_for(rollout: Rollout, source: Source | None) -> str | None:
    """Return the app that a rollout would have a device run: of a rollback, what the device ran before."""
    if rollout.kind == "release":
        return rollout.app_sid
    return None if source is None else source.previous_sid


def decide(rollout: Rollout, subject: Subject, app: App | None, penalty_failures: int) -> Fate:
    """Return what becomes of a device. ``app``: the one of ``app_sid_for``, ``None`` where that was removed."""
    if rollout.kind == "rollback":
        source = subject.source
        if source is None or source.state not in TAKEN_BACK:
            return OTHER
        if subject.instructed_by not in {rollout.rollback_of, rollout.rollout_sid}:
            return LEFT
        if source.previous_sid is None:
            return Fate("skip", "previous_unknown")
        if app is None:
            return Fate("skip", "previous_removed")
        if app.damaged:
            return Fate("skip", "damaged")
    elif has_newer_instruction(subject, rollout):
        return LEFT
    reason = _why_skipped(subject, app, penalty_failures)
    return TAKE if reason is None else Fate("skip", reason)


def has_newer_instruction(subject: Subject, rollout: Rollout) -> bool:
    """Return whether a device was instructed after the rollout began, by another or directly.

    Of instructions of one millisecond a direct one wins, and of two rollouts the one with the greater SID.
    """
    started, instructed = rollout.date_started, subject.date_instructed
    if started is None or instructed is None or subject.instructed_by == rollout.rollout_sid:
        return False
    if instructed != started:
        return instructed > started
    return subject.instructed_by is None or subject.instructed_by > rollout.rollout_sid


def _why_skipped(subject: Subject, app: App | None, penalty_failures: int) -> SkipReason | None:
    if subject.access == "disabled":
        return "disabled"
    if subject.access == "waiting":
        return "waiting"
    if app is not None:
        here, wanted = subject.hardware_class, app.hardware_class
        if here is not None and wanted is not None and here != wanted:
            return "hardware"
        if lowers_counter(app.security_counter, subject.counter):
            return "security_counter"
    return "penalty" if subject.failures >= penalty_failures else None
