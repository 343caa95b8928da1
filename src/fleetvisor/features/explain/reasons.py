"""Why a device runs what it runs and not something else: from facts to reasons, each a code and a sentence. Pure.

Spec: the table of codes in ``docs/reference/explain.md``.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from fleetvisor.features.devices.model import Device
from fleetvisor.features.rollouts.model import Penalty, Rollout
from fleetvisor.features.rollouts.waiting import Wait
from fleetvisor.features.updates.model import Member, Update
from fleetvisor.ground.clock import Millis, iso
from fleetvisor.protocol.lifecycle import State, is_open


class Reason(msgspec.Struct, frozen=True):
    """One reason: ``about`` is what it is about (an app's, a rollout's or an update's name), or empty.

    ``data`` holds what the sentence says, for programs. ``until`` is when it is over, where that is known.
    """

    code: str
    sentence: str
    about: str = ""
    until: Millis | None = None
    data: dict[str, str | int] = {}


class Part(msgspec.Struct, frozen=True):
    """A rollout that selects the device, what became of it there, and what the rollout waits for.

    ``wave`` of ``waves``: one more than there are for a device that none reaches, 0 before they are fixed. ``app_sid``:
    what it has or would have the device run. Of a device that it has not come to, ``taken``: a newer instruction has
    it; ``skip``: why it would be left out.
    """

    rollout: Rollout
    member: Member | None
    wave: int
    waves: int
    wait: Wait | None
    app_sid: str | None
    taken: bool
    skip: str | None


class Facts(msgspec.Struct, frozen=True):
    """What is known of a device: ``names`` of apps by SID; ``refused`` when its credentials last were.

    ``patience_s``: how long it may be away before it counts as offline. ``provable``: whether it has a credential.
    ``secrets_withheld``: whether its account has Secrets that it may not fetch.
    ``ignored_reports``: how many of its reports were ignored since one was taken, whose ``sequence`` was the last.
    ``left_out``: the names of values of its last report that could not be read.
    ``namesake``: the other device by whose controller id this one is named.
    """

    device: Device
    names: dict[str, str]
    instructed_by: str | None
    date_instructed: Millis | None
    is_asked: bool
    retries: int
    retries_max: int
    politeness_s: int
    patience_s: int
    reported_unknown: bool
    provable: bool
    secrets_withheld: bool
    refused: Millis | None
    penalties: tuple[Penalty, ...]
    parts: tuple[Part, ...]
    namesake: str | None = None
    ignored_reports: int = 0
    date_ignored: Millis | None = None
    sequence: int = 0
    left_out: str = ""

    def name(self, app_sid: str | None) -> str:
        """Return the name by which people know an app."""
        return self.names.get(app_sid or "", app_sid or "nothing")


SENTENCES: Final = {
    "runs": "The device reports that it runs {app}; its last report was at {date}.",
    "runs_unknown": "The device reports an image that is not an App of this account.",
    "never_reported": "The device has never reported what it runs.",
    "controller": "The board uses the controller id {controller}, which differs from the device's unique name.",
    "namesake": "A board that polls as {name} is the Device {other}, because that Device has this controller id.",
    "no_target": "The device has no target, so it keeps the app that it runs.",
    "target_direct": "The target is {app}. It was set directly at {date}.",
    "target_rollout": "The target is {app}. The rollout {rollout} set it at {date}.",
    "up_to_date": "The device runs its target, so there is nothing to do.",
    "pending": "Update {number} to {app} is offered; the device has not started it.",
    "downloading": "Update {number} to {app} is downloading: {done} of {total} bytes.",
    "installing": "Update {number} to {app} is being installed.",
    "testing": "Update {number} to {app} is on trial: the device will confirm it or revert.",
    "cancel_asked": "The server has asked the device to cancel update {number}. Without an answer, the update ends at"
    " {date}.",
    "next_update": "After update {number} has ended, the server creates an update to {app}.",
    "consent": "Update {number} waits for consent at the device.",
    "attempt": "The device may choose when it installs update {number}.",
    "skip": "The device must download update {number}, but not install it.",
    "report_due": "If the device does not report about update {number} by {date}, the update fails with code 9.",
    "tried_again": "The device left its target by itself: update {number} is retry {retries} of at most {most}.",
    "not_fetched": "The device reported success for update {number}, but it had fetched nothing of the update from this"
    " server. It may not run {app}.",
    "failed": "Update {number} to {app} failed with code {error}. The server does not retry it until you target the"
    " device again or retry the rollout.",
    "reverted": "The device left {app} by itself, and {retries} retries did not help. The server does not retry until"
    " you target the device again.",
    "reverted_after": "The device left {app} by itself. The rollout {rollout} set this target and is {state}, so the"
    " server does not retry.",
    "reports_ignored": "The server ignored {count} of the device's reports, the last at {date}: their sequence is not"
    " above {sequence}, the last accepted sequence of its journal. The device must continue the sequence or use a new"
    " journal. To accept its next report, send BeginAnew=true.",
    "values_left_out": "The server accepted the last report without the values that it could not read: {names}.",
    "waiting": "The device registered itself and waits to be accepted. Until then it gets nothing.",
    "disabled": "The device's access is disabled, so the server refuses it.",
    "no_credentials": "The device has no valid credential, so the server refuses it until you add one.",
    "credentials_refused": "The server refused the device's credentials, last at {date}. See the events of type"
    " request.denied.",
    "secrets_withheld": "The device may not fetch the account's Secrets. A fetch gets the same answer as for a"
    " missing key.",
    "never_seen": "The device has never connected. Any open update waits until the device connects.",
    "offline": "The device was last seen at {date}, longer ago than usual. Any open update waits until the device"
    " connects.",
    "politeness": "The app that the device runs may delay an update for up to {seconds} seconds.",
    "hardware": "The rollout {rollout} skips the device: the App is for other hardware.",
    "penalty": "{app} failed {failures} times on the device. Rollouts of this app skip the device until you lift the"
    " penalty.",
    "wave": "The rollout {rollout} reaches the device in wave {wave}; wave {open} is open.",
    "beyond": "No wave of the rollout {rollout} reaches the device: the last wave ends below the device's position.",
    "late": "The rollout {rollout} will find the device when it searches for devices of its open wave again: every half"
    " minute, or less often in a large fleet.",
    "rollout_waits": "The rollout {rollout} has not reached the device yet: {wait}",
    "left": "The rollout {rollout} wants the device to run {app}, but a newer instruction controls the device.",
    "left_out": "The rollout {rollout} skips the device: {why}.",
    "tried": "The rollout {rollout} reached the device in wave {wave}: {what}.",
}
_WHY: Final = {
    "security_counter": "the App's security counter is lower than that of the App that the device runs",
    "penalty": "the App failed on the device too often",
    "disabled": "the device's access is disabled",
    "waiting": "the device waits to be accepted",
    "damaged": "the stored bytes of the device's previous App are damaged",
    "previous_unknown": "the device's previous App is not known",
    "previous_removed": "the device's previous App was removed",
}
_WHAT: Final = {
    "updating": "the update is open",
    "offline": "the device did not fetch the update, and the rollout does not wait for it",
    "silent": "the device fell silent and counts as failed",
    "succeeded": "the device succeeded",
    "failed": "the device failed",
    "unchanged": "the device already ran the App",
    "canceled": "the update was canceled",
}
_OPEN: Final = {
    State.PENDING: "pending",
    State.DOWNLOADING: "downloading",
    State.INSTALLING: "installing",
    State.TESTING: "testing",
}


def explain(facts: Facts, now: Millis) -> tuple[Reason, ...]:
    """Return the reasons, in the order in which a person asks: what runs, what should, how far, what is waited for."""
    return (
        _running(facts),
        *_identified(facts),
        *_targeted(facts),
        *_progress(facts),
        *_obstacles(facts, now),
        *_rollouts(facts),
        *_penalties(facts),
    )


def _say(code: str, about: str = "", until: Millis | None = None, /, **words: str | int) -> Reason:
    return Reason(code, SENTENCES[code].format(**words), about, until, words)


def _running(facts: Facts) -> Reason:
    device = facts.device
    if device.reported_sid is not None:
        date = iso(device.date_reported or Millis(0))
        return _say("runs", device.reported_sid, app=facts.name(device.reported_sid), date=date)
    return _say("runs_unknown") if facts.reported_unknown else _say("never_reported")


def _identified(facts: Facts) -> Iterator[Reason]:
    device = facts.device
    if facts.is_asked and device.controller_id is not None and device.controller_id != device.unique_name:
        yield _say("controller", device.controller_id, controller=device.controller_id)
    if facts.namesake is not None:
        yield _say("namesake", facts.namesake, name=device.unique_name or "", other=facts.namesake)


def _targeted(facts: Facts) -> Iterator[Reason]:
    device = facts.device
    if device.target_sid is None:
        yield _say("no_target")
        return
    app, date = facts.name(device.target_sid), iso(device.date_targeted or Millis(0))
    if facts.instructed_by is not None:
        yield _say("target_rollout", facts.instructed_by, app=app, rollout=facts.instructed_by, date=date)
    else:
        yield _say("target_direct", device.target_sid, app=app, date=date)


def _progress(facts: Facts) -> Iterator[Reason]:
    device, update = facts.device, facts.device.update
    if update is not None and update.unfetched:
        yield _say("not_fetched", str(update.number), number=update.number, app=facts.name(update.app_sid))
    if update is not None and is_open(update.state):
        yield from _under_way(facts, update)
    elif device.target_sid is not None and device.update_status == "up-to-date":
        yield _say("up_to_date")
    elif update is not None and device.update_status == "error":
        yield _given_up(facts, update)


def _under_way(facts: Facts, update: Update) -> Iterator[Reason]:
    device, number, about = facts.device, update.number, str(update.number)
    app = facts.name(update.app_sid)
    how_far: dict[str, int] = {}
    if update.state == State.DOWNLOADING:
        how_far = {"done": update.bytes_done, "total": update.bytes_total}
    yield _say(_OPEN[update.state], about, number=number, app=app, **how_far)
    until = update.date_deadline
    if facts.retries and update.app_sid == device.target_sid:
        yield _say("tried_again", about, number=number, retries=facts.retries, most=facts.retries_max)
    if update.cancel_requested:
        yield _say("cancel_asked", about, until, number=number, date=iso(until or Millis(0)))
    elif update.confirmation == "waiting":
        yield _say("consent", about, number=number)
    elif facts.is_asked and update.mode in {"attempt", "skip"}:
        yield _say(update.mode, about, number=number)
    if until is not None and not update.cancel_requested:
        yield _say("report_due", about, until, number=number, date=iso(until))
    if device.target_sid not in {None, update.app_sid, device.reported_sid}:
        yield _say("next_update", device.target_sid or "", number=number, app=facts.name(device.target_sid))


def _given_up(facts: Facts, update: Update) -> Reason:
    about, app = str(update.number), facts.name(update.app_sid)
    if update.state == State.FAILED:
        return _say("failed", about, number=update.number, app=app, error=facts.device.update_error_code)
    for part in facts.parts:
        rollout = part.rollout
        if rollout.rollout_sid == facts.instructed_by and rollout.state in {"stopped", "aborted"}:
            return _say("reverted_after", about, app=app, rollout=rollout.rollout_sid, state=rollout.state)
    return _say("reverted", about, app=app, retries=facts.retries)


def _obstacles(facts: Facts, now: Millis) -> Iterator[Reason]:
    device = facts.device
    if device.access == "waiting":
        yield _say("waiting")
    elif device.access == "disabled":
        yield _say("disabled")
    if not facts.provable:
        yield _say("no_credentials")
    if facts.refused is not None:
        yield _say("credentials_refused", date=iso(facts.refused))
    if facts.ignored_reports and facts.date_ignored is not None:
        date = iso(facts.date_ignored)
        yield _say("reports_ignored", count=facts.ignored_reports, date=date, sequence=facts.sequence)
    if facts.left_out:
        yield _say("values_left_out", names=facts.left_out)
    if facts.secrets_withheld:
        yield _say("secrets_withheld")
    if device.date_last_seen is None:
        yield _say("never_seen")
    elif now - device.date_last_seen > facts.patience_s * 1000:
        yield _say("offline", date=iso(device.date_last_seen))
    if facts.politeness_s and device.update_status == "pending":
        yield _say("politeness", seconds=facts.politeness_s)


def _rollouts(facts: Facts) -> Iterator[Reason]:
    for part in facts.parts:
        member, sid = part.member, part.rollout.rollout_sid
        if part.taken or (member is not None and member.state == "left"):
            app = facts.name(part.app_sid) if part.app_sid else "its previous App"
            yield _say("left", sid, rollout=sid, app=app)
        elif part.wave > part.waves and member is None:
            yield _say("beyond", sid, rollout=sid)
        elif part.skip == "hardware":
            yield _say("hardware", sid, rollout=sid)
        elif part.skip is not None:
            yield _say("left_out", sid, rollout=sid, reason=part.skip, why=_WHY.get(part.skip, part.skip))
        elif member is None:
            yield from _to_come(part)
        else:
            what = _WHAT.get(member.state, member.state)
            state: dict[str, str | int] = {"state": member.state, "reason": member.reason, "error": member.error_code}
            yield _say("tried", sid, rollout=sid, wave=member.wave, what=what, **state)


def _to_come(part: Part) -> Iterator[Reason]:
    rollout, sid = part.rollout, part.rollout.rollout_sid
    if part.wave > rollout.wave > 0:
        yield _say("wave", sid, rollout=sid, wave=part.wave, open=rollout.wave)
    elif rollout.state == "running" and rollout.date_scanned is not None:
        yield _say("late", sid, rollout=sid)
        return
    if part.wait is not None:
        wait = part.wait
        yield _say("rollout_waits", sid, wait.until, rollout=sid, wait=wait.sentence, wait_code=wait.code)


def _penalties(facts: Facts) -> Iterator[Reason]:
    for penalty in facts.penalties:
        if penalty.held:
            yield _say("penalty", penalty.app_sid, app=facts.name(penalty.app_sid), failures=penalty.failures)
