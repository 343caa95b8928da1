"""What follows from a target, a report and the last update: pure decisions, no clock, no storage.

Spec: the lifecycle of an update, ``docs/explanation/update-lifecycle.md``. An update exists to close the gap
between target and report; these functions say when one is made, how it moves, and what its device's status is.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, assert_never

from fleetvisor.features.apps.model import App
from fleetvisor.features.updates.model import Assignment, Update
from fleetvisor.ground.clock import EARLIEST, Millis
from fleetvisor.protocol.lifecycle import DeviceAnswer, ErrorCode, State, is_open, may_follow
from fleetvisor.protocol.native import Report

RETIRED_JOURNALS_MAX = 8
NUMBER_MAX: Final = 0x7FFFFFFF
PLACE_MAX: Final = 100_000  # of an update among its device's; numbers since 2026 are above 189 million
_NUMBERS_FROM_S: Final = 1_577_836_800  # 2020-01-01
_CLOCK_FROM_S: Final = EARLIEST // 1000
_CLOCK_TO_S: Final = 3_692_217_600  # 2087-01-01


def next_number(last: int, now: Millis) -> int | None:
    """Return the number of a device's next update; ``None`` when ``last`` was the last that 31 bits hold.

    It is above ``last`` and not below the seconds since 2020, so that also a server that forgot ``last`` gives none
    twice. A clock before 2026 or after 2086 is wrong and does not count.
    """
    seconds = now // 1000
    since = seconds - _NUMBERS_FROM_S if _CLOCK_FROM_S <= seconds < _CLOCK_TO_S else 0
    number = max(last + 1, since)
    return number if number <= NUMBER_MAX else None


class Status(NamedTuple):
    """A device's ``update_status`` and ``update_error_code``."""

    status: Literal["up-to-date", "pending", "error"]
    error_code: int


class LastUpdate(NamedTuple):
    """What the status needs of a device's newest update."""

    app_sid: str
    state: State
    error_code: int


def update_status(
    *,
    target_sid: str | None,
    target_hash: str | None,
    reported_hash: str | None,
    target_reached: bool,
    last: LastUpdate | None,
) -> Status:
    """Return how a device stands towards its target.

    Target and report are compared by manifest, so the same bundle uploaded twice is the same thing.
    """
    if target_sid is None or target_hash == reported_hash:
        return Status("up-to-date", 0)
    if last is None or last.app_sid != target_sid or is_open(last.state):
        return Status("pending", 0)
    if last.state == State.FAILED:
        return Status("error", last.error_code)
    if target_reached:  # it left the target, and the retries are used up
        return Status("error", int(ErrorCode.REVERTED))
    return Status("pending", 0)


class Retarget(NamedTuple):
    """What a new target asks for: how to close the open update (if at all), and whether to make one."""

    close_as: State | None
    make: bool
    reached: bool


def retarget(assignment: Assignment, open_update: Update | None, app: App | None) -> Retarget:
    """Decide what setting ``app`` as the target does (``None`` clears it)."""
    if app is None:
        return Retarget(State.CANCELED if open_update else None, make=False, reached=False)
    if open_update is not None and open_update.app_sid == app.app_sid:
        return Retarget(None, make=False, reached=False)
    reached = assignment.reported_hash == app.manifest_hash
    return Retarget(State.SUPERSEDED if open_update else None, make=not reached, reached=reached)


def is_newer(assignment: Assignment, report: Report) -> bool:
    """Return whether a report is newer than the last one taken.

    A journal never seen starts a new count; one that a newer journal replaced is over, so a late repeat of an
    old report cannot undo a new one. The last ``RETIRED_JOURNALS_MAX`` journals are remembered.
    """
    if report.journal == assignment.journal:
        return report.sequence > assignment.sequence
    return report.journal not in assignment.retired_journals.split(",")


def is_repeat(assignment: Assignment, report: Report) -> bool:
    """Return whether a report is the last one taken, sent again: its answer was lost, and nothing is amiss."""
    return report.journal == assignment.journal and report.sequence == assignment.sequence


def retire(assignment: Assignment, report: Report) -> str:
    """Return the list of retired journals once ``report`` is taken."""
    if assignment.journal is None or assignment.journal == report.journal:
        return assignment.retired_journals
    retired = [*filter(None, assignment.retired_journals.split(",")), assignment.journal]
    return ",".join(retired[-RETIRED_JOURNALS_MAX:])


def reported_app(candidates: Iterable[App], named: str | None, target_sid: str | None) -> App | None:
    """Choose which app a reported manifest is, among those of the account that have this manifest.

    The one that the device names, else its target, else the newest.
    """
    by_age = sorted(candidates, key=lambda app: (app.date_created, app.app_sid))
    for wanted in (named, target_sid):
        for app in by_age:
            if app.app_sid == wanted:
                return app
    return by_age[-1] if by_age else None


def next_state(update: Update, report: Report, running_hash: str | None) -> State | None:
    """Return the state to which a report moves the open ``update``; ``None``: it stays.

    A device cannot cancel or supersede by itself, and cannot succeed while it runs something else. One that
    already runs the update's app and no longer speaks of the update has succeeded.
    """
    told = report.update
    if told is None or told.number != update.number:
        return State.SUCCEEDED if running_hash == update.app_hash else None
    if told.state in {State.CANCELED, State.SUPERSEDED} or not may_follow(update.state, told.state):
        return None
    if told.state == State.SUCCEEDED and running_hash != update.app_hash:
        return None
    return told.state


class Verdict(NamedTuple):
    """What a device's answer makes of an update: the state it moves to (``None``: it stays), and the error code."""

    state: State | None
    error_code: int = 0


COULD_NOT_CANCEL: Final = Verdict(State.FAILED, int(ErrorCode.OTHER))


def verdict_of(update: Update, answer: DeviceAnswer) -> Verdict:
    """Return what a device's answer makes of the open ``update``.

    A device that finishes an update that it was to skip has skipped it. One that gives up without having been asked
    has failed.
    """
    match answer:
        case DeviceAnswer.FINISHED:
            return Verdict(State.CANCELED if update.mode == "skip" else State.SUCCEEDED)
        case DeviceAnswer.FAILED:
            return Verdict(State.FAILED, int(ErrorCode.INSTALL_FAILED))
        case DeviceAnswer.REFUSED:
            return Verdict(State.FAILED, int(ErrorCode.REFUSED_BY_APPLICATION))
        case DeviceAnswer.CANCELED:
            if update.cancel_requested:
                return Verdict(State.CANCELED)
            return Verdict(State.FAILED, int(ErrorCode.OTHER))
        case DeviceAnswer.DOWNLOADED:
            return Verdict(_forward(update, State.INSTALLING))
        case DeviceAnswer.PROCEEDING:
            return Verdict(_forward(update, State.DOWNLOADING))
        case DeviceAnswer.SCHEDULED:
            return Verdict(None)
        case _:
            assert_never(answer)


def counts_late(update: Update, verdict: Verdict) -> bool:
    """Return whether an answer about an update that is over still says what runs: a success that nobody waited for."""
    gave_up = update.state == State.FAILED and update.error_code in {ErrorCode.NO_REPORT, ErrorCode.OTHER}
    return verdict.state == State.SUCCEEDED and (gave_up or update.state in {State.CANCELED, State.SUPERSEDED})


def _forward(update: Update, state: State) -> State | None:
    return state if may_follow(update.state, state) else None


def is_due(assignment: Assignment) -> bool:
    """Return whether the target asks for an update, called with none open."""
    return assignment.target_sid is not None and assignment.target_hash != assignment.reported_hash


def error_code_of(report: Report) -> int:
    """Return the error code of a report that says ``failed``: what it carries, 99 when that is no failure's code."""
    code = report.update.error_code if report.update else 0
    return code if code in set(ErrorCode) - {ErrorCode.NONE} else int(ErrorCode.OTHER)


def reverted(assignment: Assignment, running_hash: str | None) -> bool:
    """Return whether a device runs something else than the target that it had reached; called with no update open."""
    return assignment.target_hash is not None and assignment.target_reached and running_hash != assignment.target_hash


def needs_another(assignment: Assignment, running_hash: str | None, retries_max: int) -> bool:
    """Return whether a device that left a target it had reached gets a new update; called with none open."""
    return reverted(assignment, running_hash) and assignment.retries < retries_max
