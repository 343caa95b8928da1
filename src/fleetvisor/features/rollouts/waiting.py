"""What a rollout waits for, for programs (a code) and for people (a sentence). Pure.

Spec: the table of codes in ``docs/reference/rollouts.md``.
"""

from typing import Final

import msgspec

from fleetvisor.features.rollouts import rules
from fleetvisor.features.rollouts.guard import HELD, is_proven
from fleetvisor.features.rollouts.model import View
from fleetvisor.ground.clock import Millis, later


class Wait(msgspec.Struct, frozen=True):
    """What is waited for; ``until`` is when it is over, where that is known."""

    code: str
    sentence: str
    until: Millis | None = None


CODES: Final = {
    "start": "The rollout is a draft and waits to be started.",
    "start_time": "The rollout waits for its start time.",
    "selection": "The selected devices are being counted.",
    "resume": "The rollout is paused. It offers nothing until you resume it.",
    "damaged": "The stored bytes of the app are damaged. The rollout offers nothing until you upload the same"
    " firmware again.",
    "offering": "Devices of the open wave are being offered the app.",
    "concurrency": "Waiting for open updates to finish (MaxConcurrent reached).",
    "rate": "Waiting until more updates may start (StartsPerMinute reached).",
    "devices": "Some devices of the open wave have not decided yet.",
    "soak": "The soak time of the open wave is not over.",
    "decision": "The guard is about to decide on the open wave.",
    "operator": "The guard holds the open wave: an operator must release it or abort the rollout.",
    "canceling": "Open updates are being canceled.",
}


def waits_for(view: View, now: Millis) -> Wait | None:
    """Return what a rollout waits for; ``None`` when it is over."""
    rollout = view.rollout
    if rollout.canceling:
        return _wait("canceling")
    match rollout.state:
        case "draft":
            return _wait("start")
        case "scheduled":
            return _wait("start_time", rollout.date_start)
        case "starting":
            return _wait("selection")
        case "paused":
            return _wait("resume")
        case "running":
            return _wave(view, now)
        case _:
            return None


def _wave(view: View, now: Millis) -> Wait:
    rollout = view.rollout
    if view.damaged and rollout.kind == "release":
        return _wait("damaged")
    wave = view.waves[rollout.wave - 1]
    every = rules.total(view.counted.counts)
    if (rollout.date_scanned is None and wave.date_offered is None) or rollout.date_retry is not None:
        if rollout.concurrent_max and every["updating"] >= rollout.concurrent_max:
            return _wait("concurrency")
        if rules.allowance(rollout, every["updating"], now) == 0:
            return _wait("rate", rules.next_start(rollout))
        return _wait("offering")
    proven = wave.position < len(view.waves) and is_proven(view.counted.evidence, rollout.guard)
    if proven and wave.date_offered is not None:  # then devices that are deciding are not waited for
        over = later(wave.date_offered, rollout.guard.soak)
        return _wait("soak", over) if over > now else _wait("decision")
    if every["updating"]:
        return _wait("devices")
    over = later(wave.date_settled or now, rollout.guard.soak)
    if over > now:
        return _wait("soak", over)
    if view.damaged and wave.position == len(view.waves):
        return _wait("damaged")
    return _wait("operator") if view.ruling is not None and view.ruling.code in HELD else _wait("decision")


def _wait(code: str, until: Millis | None = None) -> Wait:
    return Wait(code, CODES[code], until)
