"""What a rollout does next, and to whom: pure decisions, no clock, no storage.

Spec: ``docs/reference/rollouts.md``. A device's place in a rollout is a hash, so no row is needed to know its wave.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Final

import msgspec

from fleetvisor.features.rollouts.model import (
    FINISHED,
    SCALE,
    Action,
    Counts,
    Rollout,
    RolloutState,
    Wave,
    WaveSize,
)
from fleetvisor.features.updates.model import STATES, MemberState
from fleetvisor.ground.clock import Millis, later
from fleetvisor.ground.errors import Conflict, Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.guard_settings import MILLION

_DEVICES: Final = re.compile(r"[1-9][0-9]{0,7}")
_PERCENT_DIGITS_MAX: Final = 12
_SAVED_MS: Final = 1000
_EARNED_MS: Final = 60_000 + _SAVED_MS  # in which a minute's starts are earned: a minute never has more of them
_ALWAYS: Final = Millis(0)


def place(rollout_sid: str, device_sid: str) -> int:
    """Return a device's place in a rollout: even over [0, 2^53), and the same for ever."""
    return int.from_bytes(sha256(f"{rollout_sid}{device_sid}".encode()).digest()[:8]) >> 11


def parse_waves(text: str, limits: Limits) -> tuple[WaveSize, ...]:
    """Parse ``1%, 10%, 500, 100%``: how far each wave goes, cumulatively. Raises ``Invalid``."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > limits.rollout_waves_max:
        raise Invalid(f"Waves: more than {limits.rollout_waves_max} waves.")
    waves = tuple(_wave(part) for part in parts)
    for kind in ("percent_ppm", "devices"):
        sizes = [size for wave in waves if (size := getattr(wave, kind)) is not None]
        if sorted(set(sizes)) != sizes:
            raise Invalid("Waves: each wave must go further than the wave before it, as in 1%,10%,50%,100%.")
    return waves


def _wave(text: str) -> WaveSize:
    if text.endswith("%"):
        ppm = parse_ppm(text, "Waves")
        if ppm == 0:
            raise Invalid("Waves: a wave of 0% has no devices.")
        return WaveSize(ppm, None)
    if _DEVICES.fullmatch(text) is None:
        raise Invalid(f"Waves: {text[:40]!a} is neither a percentage, such as 10%, nor a number of devices.")
    return WaveSize(None, int(text))


def parse_ppm(text: str, name: str) -> int:
    """Parse a percentage, with or without its sign, into millionths. Raises ``Invalid``."""
    number = text.strip().removesuffix("%").strip()
    if number.startswith("0.") and not text.strip().endswith("%"):
        raise Invalid(f"{name}: {text[:40]!a} could be a share or a percentage. Write it with %, as in 5%.")
    try:
        if len(number) > _PERCENT_DIGITS_MAX or not number.replace(".", "", 1).isdigit() or not number.isascii():
            raise InvalidOperation
        ppm = Decimal(number) * (MILLION // 100)
    except InvalidOperation:
        raise Invalid(f"{name}: {text[:40]!a} is not a percentage such as 2.5%.") from None
    if not 0 <= ppm <= MILLION or ppm != ppm.to_integral_value():
        raise Invalid(f"{name}: {text[:40]!a} is not between 0% and 100%, in steps of 0.0001%.")
    return int(ppm)


def thresholds(waves: Sequence[Wave], places: Sequence[int], count: int) -> tuple[int, ...]:
    """Fix the waves' thresholds: a share as it is, a number of devices at the place of its last one.

    ``places`` are the lowest places of the ``count`` devices selected, in order: at least one, and as many as the
    waves' numbers ask for. The first wave has at least one device, if there is any.
    """
    fixed: list[int] = []
    least = places[0] + 1 if places else 0
    for wave in waves:
        if wave.percent_ppm is not None:
            threshold = wave.percent_ppm * SCALE // MILLION
        else:
            number = wave.devices or 0
            threshold = places[number - 1] + 1 if number <= count else SCALE
        least = max(least, threshold)
        fixed.append(least)
    return tuple(fixed)


def wave_of(at: int, fixed: Sequence[int]) -> int:
    """Return the wave (from 1) in which a place lies; one beyond the last when it lies in none."""
    return bisect_right(fixed, at) + 1


class Origin(msgspec.Struct, frozen=True):
    """When a device was made, and whether an operator registered or accepted it."""

    date_created: Millis
    by_operator: bool


def allowance(rollout: Rollout, updating: int, now: Millis) -> int | None:
    """Return how many updates may be started now; ``None``: any number.

    None while another node's clock, or this one's own before it was set back, has paid for starts in the future.
    """
    room = None if not rollout.concurrent_max else max(0, rollout.concurrent_max - updating)
    rate = rollout.starts_per_minute
    if not rate:
        return room
    paid = max(0, (now - _paid_from(rollout, now)) * rate // _EARNED_MS)
    return paid if room is None else min(room, paid)


def next_start(rollout: Rollout) -> Millis:
    """Return when the next start is paid for, of a rollout with a rate."""
    return Millis(rollout.date_paid - (-_EARNED_MS // rollout.starts_per_minute))


def pay(rollout: Rollout, started: int, now: Millis) -> Millis:
    """Return until when starts are paid for after ``started`` more of them."""
    rate = rollout.starts_per_minute
    if not rate:
        return rollout.date_paid
    return Millis(_paid_from(rollout, now) + -(-started * _EARNED_MS // rate))


def _paid_from(rollout: Rollout, now: Millis) -> int:
    """Return from when unused starts count: one, and a second's, can be saved up.

    A minute's starts, at 61 s / rate each, cost less than the minute and what was saved up: they are at most the rate.
    """
    return max(rollout.date_paid, now - _EARNED_MS // rollout.starts_per_minute - _SAVED_MS)


_ALLOWED: Final[dict[Action, frozenset[RolloutState]]] = {
    "start": frozenset({"draft", "scheduled"}),
    "pause": frozenset({"running"}),
    "resume": frozenset({"paused"}),
    "abort": frozenset({"draft", "scheduled", "starting", "running", "paused"}),
    "retry": frozenset({"running", "paused", "completed"}),
    "release": frozenset({"running"}),
}
ACTIONS: Final = tuple(_ALLOWED)


def check_action(action: Action, state: RolloutState) -> None:
    """Demand that ``action`` can be done in ``state``. Raises ``Conflict``."""
    if state not in _ALLOWED[action]:
        possible = [other for other, states in _ALLOWED.items() if state in states]
        hint = f"possible: {', '.join(possible)}" if possible else "it has ended; create a new one, or roll it back"
        raise Conflict(f"A Rollout that is {state} cannot {action} ({hint}).")


def check_removal(rollout: Rollout, rollbacks: int) -> None:
    """Demand that a rollout can be removed, which ``rollbacks`` others are to take back. Raises ``Conflict``."""
    if is_unfinished(rollout.state):
        raise Conflict(f"A Rollout that is {rollout.state} cannot be removed. First abort it, or wait until it ends.")
    if rollout.canceling and rollout.date_started is not None:
        raise Conflict("Its open updates are being canceled. Remove the Rollout when that is done.")
    check_kept(rollbacks)


def check_kept(rollbacks: int) -> None:
    """Demand that no other rollout is to take one back; ``rollbacks`` are. Raises ``Conflict``."""
    if rollbacks:
        raise Conflict("Another Rollout will roll this one back. First wait until that Rollout ends, or remove it.")


def is_unfinished(state: RolloutState) -> bool:
    """Return whether a rollout in ``state`` can still change anything by itself."""
    return state not in FINISHED and state != "draft"


def gave_up(state: RolloutState) -> bool:
    """Return whether a rollout in ``state`` was stopped or aborted: nothing is tried for it any more."""
    return state in FINISHED and state != "completed"


def total(counts: Counts) -> dict[MemberState, int]:
    """Return the counts of all waves together."""
    return {state: sum(wave.get(state, 0) for wave in counts.values()) for state in STATES}


def evidence_from(
    rollout: Rollout, wave: int, waves: int, origin: Origin, *, after_s: int, now: Millis
) -> Millis | None:
    """Return from when the result of a device of ``wave`` (of ``waves``) counts as evidence; 0 is always.

    ``None`` is never. So that whoever can enrol devices cannot outvote those that were there before. ``after_s``: for
    how long a device that nobody accepted is too new in the last wave.
    """
    match rollout.known_by:
        case "none":
            return _ALWAYS
        case "date":
            return _ALWAYS if origin.date_created <= (rollout.known_since or 0) else None
        case "start" if wave < waves:
            return _ALWAYS if origin.date_created <= (rollout.date_started or 0) else None
        case "start":
            known_from = later(origin.date_created, after_s)
            return _ALWAYS if origin.by_operator or known_from <= now else known_from
