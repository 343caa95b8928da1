"""The guard of a rollout: from exact counts to stop, release, hold or unproven. Pure.

The failure rate is watched by a confidence sequence for a Bernoulli rate: the beta-binomial mixture, uniform prior.
A rate p stays possible while the mixture's likelihood is less than 1/(1 - confidence) times that of p. The true rate is
ever ruled out, however often one looks, no oftener than the confidence says (Ville's inequality).
Deliberately no clock and no storage. Spec: ``docs/explanation/guards.md``.
"""

from decimal import Decimal
from math import lgamma, log, log1p
from typing import Final, Literal

import msgspec

from fleetvisor.protocol.guard_settings import MILLION, GuardSettings

_STEPS: Final = 40
_FLOOR: Final = 0.001
_UNDER, _OVER = "under 0.1 %", "over 99.9 %"
_DIGITS, _DIGITS_MAX, _PLACES_MAX = 3, 9, 9

Verdict = Literal["stop", "release", "hold", "unproven"]


class Evidence(msgspec.Struct, frozen=True):
    """How the devices fared that a rollout tried: each once, over all its waves. Silent ones count as failed.

    ``offline`` ones did not come for their update and are not waited for: they say nothing, and are told of.
    ``uncounted`` ones were decided but are too new to count.
    """

    succeeded: int
    failed: int
    silent: int
    offline: int = 0
    uncounted: int = 0

    @property
    def total(self) -> int:
        """Return how many were decided."""
        return self.succeeded + self.failed + self.silent

    @property
    def bad(self) -> int:
        """Return how many count as failed."""
        return self.failed + self.silent


class Bounds(msgspec.Struct, frozen=True):
    """Between which rates the failure rate lies, with the guard's confidence, at any time."""

    lower: float
    upper: float


class Progress(msgspec.Struct, frozen=True):
    """Where the open wave stands.

    ``soaked``: its soak has passed since every device of it was offered the app. ``settled``: every device is decided.
    ``rested``: the soak has passed since then too. ``last``: no wave follows, so it ends only with its last device.
    """

    soaked: bool
    settled: bool
    rested: bool
    last: bool = False


class Decision(msgspec.Struct, frozen=True):
    """What the guard says, and why: ``code`` for programs, ``sentence`` for people."""

    verdict: Verdict
    code: str
    sentence: str
    evidence: Evidence
    bounds: Bounds
    proceeds: bool
    stops: bool


def bounds(evidence: Evidence, confidence: float) -> Bounds:
    """Return the bounds of the failure rate."""
    bad, total = evidence.bad, evidence.total
    threshold = -log1p(-confidence)
    return Bounds(_least(bad, total, threshold), 1.0 - _least(total - bad, total, threshold))


def _least(bad: int, total: int, threshold: float) -> float:
    """Return the lowest rate that stays possible, from below: between 0, which is ruled out, and what was observed.

    The highest is one minus the lowest rate of successes: beside 1 there are no numbers to search among, as beside 0.
    """
    if bad == 0:
        return 0.0
    good = total - bad
    mixture = lgamma(bad + 1) + lgamma(good + 1) - lgamma(total + 2)  # the likelihood of the counts under it
    outside, inside = 0.0, bad / total
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if mixture - bad * log(middle) - (good * log1p(-middle) if good else 0.0) >= threshold:
            outside = middle
        else:
            inside = middle
    return outside


def decide(evidence: Evidence, progress: Progress, settings: GuardSettings) -> Decision:
    """Say what to do with the open wave."""
    between = bounds(evidence, settings.confidence)
    if evidence.total >= settings.minimum_sample and between.lower > settings.limit:
        return _decision("stop", "failing", evidence, between, settings, stops=True)
    if _proves(evidence, between, settings):
        if progress.soaked and (progress.rested or not progress.last):
            return _decision("release", "proven", evidence, between, settings, proceeds=True)
        if not progress.last or progress.settled:
            return _decision("hold", "soaking", evidence, between, settings)
    if not progress.settled:
        return _decision("hold", "deciding", evidence, between, settings)
    if not progress.rested:
        return _decision("hold", "soaking", evidence, between, settings)
    return _unproven(evidence, between, settings, last=progress.last)


def is_proven(evidence: Evidence, settings: GuardSettings) -> bool:
    """Return whether the failure rate is proven to be under the limit: the wave waits for its soak only."""
    return _proves(evidence, bounds(evidence, settings.confidence), settings)


def _proves(evidence: Evidence, between: Bounds, settings: GuardSettings) -> bool:
    return evidence.total >= settings.minimum_sample and between.upper < settings.limit


def _unproven(evidence: Evidence, between: Bounds, settings: GuardSettings, *, last: bool) -> Decision:
    if evidence.total == 0 and evidence.uncounted and not last:
        return _decision("unproven", "only_new", evidence, between, settings)
    over = evidence.bad * MILLION > settings.limit_ppm * evidence.total
    if not over:
        code = "proof_required" if settings.require_proof else "unproven_within"
        return _decision("unproven", code, evidence, between, settings, proceeds=not settings.require_proof)
    on = settings.on_unproven
    code = f"unproven_over_{on}"
    return _decision("unproven", code, evidence, between, settings, proceeds=on == "release", stops=on == "stop")


def _decision(
    verdict: Verdict,
    code: str,
    evidence: Evidence,
    between: Bounds,
    settings: GuardSettings,
    *,
    proceeds: bool = False,
    stops: bool = False,
) -> Decision:
    sentence = f"{seen(evidence, settings)} {SENTENCES[code].format(**_words(between, settings))}"
    return Decision(verdict, code, sentence, evidence, between, proceeds, stops)


SENTENCES: Final = {
    "failing": "The failure rate is over the limit of {limit}: it is {at_least} at {confidence} confidence."
    " The rollout is stopped.",
    "proven": "The failure rate is under the limit of {limit}: it is {at_most} at {confidence} confidence."
    " The wave has soaked and is released.",
    "soaking": "The wave must soak for {soak} s before the guard decides.",
    "deciding": "Some devices have not decided yet; the failure rate is between {lower} and {upper} (limit {limit}).",
    "unproven_within": "The observed rate is within the limit of {limit} but proves nothing: the true rate may be from"
    " {lower} to {upper} at {confidence} confidence. The observed rate releases the wave, without an error bound.",
    "proof_required": "The observed rate is within the limit of {limit}, but the true rate may be from {lower} to"
    " {upper} at {confidence} confidence. RequireProof holds the wave. Release the wave by hand, or abort the rollout.",
    "only_new": "No device that counts as evidence was decided, so nothing is known about the app. The wave is held."
    " Release the wave by hand, or abort the rollout.",
    "unproven_over_hold": "The observed rate is over the limit of {limit} but proves nothing: the true rate may be from"
    " {lower} to {upper} at {confidence} confidence. The wave is held. Release the wave by hand, or abort the rollout.",
    "unproven_over_stop": "The observed rate is over the limit of {limit}; the true rate may be from {lower} to"
    " {upper} at {confidence} confidence. The observed rate stops the rollout, without an error bound.",
    "unproven_over_release": "The observed rate is over the limit of {limit} but proves nothing: the true rate may be"
    " from {lower} to {upper} at {confidence} confidence. OnUnproven releases the wave, without an error bound.",
}
CODES: Final = tuple(SENTENCES)
HELD: Final = frozenset({"proof_required", "only_new", "unproven_over_hold"})


def seen(evidence: Evidence, settings: GuardSettings) -> str:
    """Say in words what was seen, with which every sentence begins."""
    away = f" {evidence.offline} more did not fetch the update." if evidence.offline else ""
    if evidence.uncounted:
        away = f" {evidence.uncounted} more are too new to count as evidence.{away}"
    if evidence.total == 0:
        known = " that counts" if evidence.uncounted else ""
        return f"No device{known} has succeeded, failed or fallen silent.{away}"
    silent = f", {evidence.silent} of them silent" if evidence.silent else ""
    devices = "device" if evidence.total == 1 else "devices"
    few = (
        f"; the bounds apply from {settings.minimum_sample} devices on"
        if evidence.total < settings.minimum_sample
        else ""
    )
    return f"{evidence.bad} of {evidence.total} {devices} failed{silent}{few}.{away}"


def _words(between: Bounds, settings: GuardSettings) -> dict[str, str]:
    lower, upper = _beside(between.lower, settings.limit), _beside(between.upper, settings.limit)
    return {
        "limit": percent(settings.limit, _DIGITS_MAX),
        "lower": lower,
        "at_least": lower if lower == _OVER else f"at least {lower}",
        "upper": upper,
        "at_most": upper if upper == _UNDER else f"at most {upper}",
        "confidence": percent(settings.confidence, _DIGITS_MAX),
        "soak": str(settings.soak),
    }


def _beside(rate: float, limit: float) -> str:
    """Render a bound with as many digits as tell it from the limit; a thousandth is the least that says something."""
    if 0 < rate < _FLOOR <= limit:
        return _UNDER
    if limit <= 1 - _FLOOR < rate < 1:
        return _OVER
    for digits in range(_DIGITS, _DIGITS_MAX):
        text = percent(rate, digits)
        if text != percent(limit, digits):
            return text
    return percent(rate, _DIGITS_MAX)


def percent(rate: float, digits: int = _DIGITS) -> str:
    """Render a rate for people: so many digits of it, or of what it lacks to all, say something."""
    shown = Decimal(repr(rate)) * 100
    small = min(shown, 100 - shown)
    if small <= 0:
        return f"{shown:.0f} %"
    places = min(max(0, digits - 1 - small.adjusted()), _PLACES_MAX)
    text = f"{round(shown, places):f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
