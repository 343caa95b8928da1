"""Why a device runs what it runs and not something else: from facts to reasons, each a code and a sentence. Pure.

Spec: the table of codes in ``docs/reference/explain.md``.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from fleetvisor.features.devices.model import Device
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.rollouts.penalties import Penalty
from fleetvisor.features.rollouts.waiting import Wait
from fleetvisor.features.updates.members import Member
from fleetvisor.ground.clock import Millis, iso
from fleetvisor.protocol.lifecycle import State, is_open

OFFLINE_POLLS: Final = 3


class Reason(msgspec.Struct, frozen=True):
    """One reason: ``about`` is what it is about (an app's, a rollout's or an update's name), or empty."""

    code: str
    sentence: str
    about: str = ""
    until: Millis | None = None


class Part(msgspec.Struct, frozen=True):
    """A rollout that selects the device, what became of it there, and what the rollout waits for."""

    rollout: Rollout
    member: Member | None
    wave: int
    wait: Wait | None


class Facts(msgspec.Struct, frozen=True):
    """What is known of a device: ``names`` of apps by SID; ``refused`` when its credentials last were."""

    device: Device
    names: dict[str, str]
    instructed_by: str | None
    date_instructed: Millis | None
    politeness_s: int
    poll_interval_s: int
    reported_unknown: bool
    refused: Millis | None
    penalties: tuple[Penalty, ...]
    parts: tuple[Part, ...]

    def name(self, app_sid: str | None) -> str:
        """Give the name by which people know an app."""
        return self.names.get(app_sid or "", app_sid or "nothing")


SENTENCES: Final = {
    "runs": "It reports that it runs {app}, since {date}.",
    "runs_unknown": "It reports an image that no App of this account is.",
    "never_reported": "It never reported what it runs.",
    "no_target": "It has no target: it is left to run what it runs.",
    "target_direct": "Its target is {app}, set directly.",
    "target_rollout": "Its target is {app}, set by the rollout {rollout}.",
    "up_to_date": "It runs its target: there is nothing to do.",
    "pending": "Update {number} to {app} is offered; the device has not begun it.",
    "downloading": "Update {number} to {app} is downloading: {done} of {total} bytes.",
    "installing": "Update {number} to {app} is being installed.",
    "testing": "Update {number} to {app} is on trial: the device confirms it or goes back.",
    "cancel_asked": "The device is asked to cancel update {number}; the next one waits for its answer.",
    "consent": "Update {number} waits for somebody's consent at the device.",
    "failed": "Update {number} to {app} failed with code {error}. Nothing is tried until it is targeted or retried.",
    "reverted": "It left its target by itself more often than it is tried again.",
    "waiting": "It registered itself and waits to be accepted: until then it gets nothing.",
    "disabled": "Its access is disabled: it is refused.",
    "credentials_refused": "Its credentials were refused, last at {date}: see the events of type request.denied.",
    "never_seen": "It was never seen. What is offered waits until it comes.",
    "offline": "It was last seen at {date}, longer ago than it usually takes. What is offered waits until it comes.",
    "politeness": "The app that it runs may put an update off for up to {seconds} seconds.",
    "hardware": "The rollout {rollout} left it out: the App is for other hardware.",
    "penalty": "It failed {app} {failures} times: rollouts pass it by until that is lifted.",
    "wave": "The rollout {rollout} reaches it in wave {wave}; wave {open} is open.",
    "rollout_waits": "The rollout {rollout} has not come to it yet: {wait}",
    "left": "The rollout {rollout} would have it run {app}, but a newer instruction has it.",
    "left_out": "The rollout {rollout} left it out: {reason}.",
    "tried": "The rollout {rollout} came to it in wave {wave}: {state}.",
}
_OPEN: Final = {
    State.PENDING: "pending",
    State.DOWNLOADING: "downloading",
    State.INSTALLING: "installing",
    State.TESTING: "testing",
}


def explain(facts: Facts, now: Millis) -> tuple[Reason, ...]:
    """Give the reasons, in the order in which a person asks: what runs, what should, how far, what is waited for."""
    return (
        _running(facts),
        *_targeted(facts),
        *_progress(facts),
        *_obstacles(facts, now),
        *_rollouts(facts),
        *_penalties(facts),
    )


def _say(code: str, about: str = "", **words: str | int) -> Reason:
    return Reason(code, SENTENCES[code].format(**words), about)


def _running(facts: Facts) -> Reason:
    device = facts.device
    if device.reported_sid is not None:
        date = iso(device.date_reported or Millis(0))
        return _say("runs", device.reported_sid, app=facts.name(device.reported_sid), date=date)
    return _say("runs_unknown") if facts.reported_unknown else _say("never_reported")


def _targeted(facts: Facts) -> Iterator[Reason]:
    device = facts.device
    if device.target_sid is None:
        yield _say("no_target")
    elif facts.instructed_by is not None:
        app = facts.name(device.target_sid)
        yield _say("target_rollout", facts.instructed_by, app=app, rollout=facts.instructed_by)
    else:
        yield _say("target_direct", device.target_sid, app=facts.name(device.target_sid))


def _progress(facts: Facts) -> Iterator[Reason]:
    device, update = facts.device, facts.device.update
    if device.target_sid is not None and device.update_status == "up-to-date":
        yield _say("up_to_date")
    if update is None:
        return
    words: dict[str, str | int] = {
        "number": update.number,
        "app": facts.name(update.app_sid),
        "error": device.update_error_code,
    }
    about = str(update.number)
    if is_open(update.state):
        yield _say(_OPEN[update.state], about, done=update.bytes_done, total=update.bytes_total, **words)
        if update.cancel_requested:
            yield _say("cancel_asked", about, **words)
        elif update.confirmation == "waiting":
            yield _say("consent", about, **words)
    elif device.update_status == "error":
        yield _say("failed" if update.state == State.FAILED else "reverted", about, **words)


def _obstacles(facts: Facts, now: Millis) -> Iterator[Reason]:
    device = facts.device
    if device.access == "waiting":
        yield _say("waiting")
    elif device.access == "disabled":
        yield _say("disabled")
    if facts.refused is not None:
        yield _say("credentials_refused", date=iso(facts.refused))
    if device.date_last_seen is None:
        yield _say("never_seen")
    elif now - device.date_last_seen > OFFLINE_POLLS * facts.poll_interval_s * 1000:
        yield _say("offline", date=iso(device.date_last_seen))
    if facts.politeness_s and device.update_status == "pending":
        yield _say("politeness", seconds=facts.politeness_s)


def _rollouts(facts: Facts) -> Iterator[Reason]:
    for part in facts.parts:
        rollout, member = part.rollout, part.member
        sid = rollout.rollout_sid
        if member is None:
            if part.wave > rollout.wave > 0:
                yield _say("wave", sid, rollout=sid, wave=part.wave, open=rollout.wave)
            if part.wait is not None:
                waits = _say("rollout_waits", sid, rollout=sid, wait=part.wait.sentence)
                yield msgspec.structs.replace(waits, until=part.wait.until)
        elif member.state == "left":
            yield _say("left", sid, rollout=sid, app=facts.name(rollout.app_sid))
        elif member.state == "skipped" and member.reason == "hardware":
            yield _say("hardware", sid, rollout=sid)
        elif member.state == "skipped":
            yield _say("left_out", sid, rollout=sid, reason=member.reason)
        else:
            yield _say("tried", sid, rollout=sid, wave=member.wave, state=member.state)


def _penalties(facts: Facts) -> Iterator[Reason]:
    for penalty in facts.penalties:
        if penalty.held:
            yield _say("penalty", penalty.app_sid, app=facts.name(penalty.app_sid), failures=penalty.failures)
