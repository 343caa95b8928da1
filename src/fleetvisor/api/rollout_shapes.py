"""The JSON of rollouts (extension), their plans, decisions and devices.

NOTE: these structs are the published contract; the OpenAPI document's schemas are made from them.
"""

from typing import Any

import msgspec

from fleetvisor.api.shapes import AccountSidText, AppSidText, Date, DeviceSidText, RolloutSidText, Url
from fleetvisor.features.explain.explainer import Explanation
from fleetvisor.features.rollouts import guard, rules
from fleetvisor.features.rollouts.model import SCALE, Penalty, Rollout, Ruling, View, Wave
from fleetvisor.features.rollouts.planning import LeftOut, Plan
from fleetvisor.features.rollouts.waiting import waits_for
from fleetvisor.features.updates.model import Member
from fleetvisor.ground.clock import Millis, iso, iso_or_none
from fleetvisor.protocol.guard_settings import MILLION, GuardSettings
from fleetvisor.web.urls import Urls

_DIGITS = 6


class GuardShape(GuardSettings, frozen=True):
    """What the guard goes by: rates are shares, times are seconds (extension)."""


class WaveShape(msgspec.Struct):
    """A wave, and how many of its devices are in each state (extension). ``threshold`` is a place in [0, 1]."""

    position: int
    size: str
    state: str
    threshold: float | None
    counts: dict[str, int]
    date_opened: Date | None
    date_offered: Date | None
    date_settled: Date | None
    date_released: Date | None


class WaitsForShape(msgspec.Struct):
    """What a rollout waits for: a code for programs, a sentence for people, and until when, if that is known."""

    code: str
    sentence: str
    until: Date | None


class DecisionShape(msgspec.Struct):
    """What the guard or an operator decided, and the numbers it stood on (extension)."""

    number: int
    wave: int
    verdict: str
    code: str
    sentence: str
    numbers: dict[str, Any]
    date_created: Date


class RolloutShape(msgspec.Struct):
    """A rollout with its waves, counts, failure rate and newest decision (extension).

    ``uncounted``: devices that were decided but are too new to count as evidence. ``removed_devices``: of the counts,
    how many belong to devices that were removed since. ``known_since``: devices made before it count as evidence.
    """

    sid: RolloutSidText
    account_sid: AccountSidText
    friendly_name: str
    kind: str
    app_sid: AppSidText | None
    rollback_of: RolloutSidText | None
    selector: str
    state: str
    wave: int
    waves: list[WaveShape]
    counts: dict[str, int]
    uncounted: int
    removed_devices: int
    failure_rate: float | None
    failure_rate_lower: float
    failure_rate_upper: float
    guard: GuardShape
    decision: DecisionShape | None
    waits_for: WaitsForShape | None
    known_since: Date | None
    max_concurrent: int
    starts_per_minute: int
    retrying: bool
    canceling: bool
    date_start: Date | None
    date_started: Date | None
    date_ended: Date | None
    date_created: Date
    date_updated: Date
    url: Url
    links: dict[str, Url]


class PlannedWaveShape(msgspec.Struct):
    """What a wave would come to (extension). ``new``: devices that enrolled lately, or do not count as evidence."""

    position: int
    size: str
    threshold: float
    devices: int
    unchanged: int
    new: int
    sample: list[DeviceSidText]


class LeftOutShape(msgspec.Struct):
    """Devices that would be left out, and why (extension)."""

    reason: str
    devices: int
    sample: list[DeviceSidText]


class PlanShape(msgspec.Struct):
    """What a rollout would do if it began now (extension). ``beyond``: selected, but in no wave."""

    rollout_sid: RolloutSidText
    selected: int
    beyond: int
    waves: list[PlannedWaveShape]
    left_out: list[LeftOutShape]
    warnings: list[str]


class PenaltyShape(msgspec.Struct):
    """How often a Device failed an App, and whether that holds it back from Rollouts of it (extension)."""

    app_sid: AppSidText
    failures: int
    held: bool
    date_failed: Date


class PenaltiesShape(msgspec.Struct):
    """The Apps that a Device failed (extension)."""

    device_sid: DeviceSidText
    penalties: list[PenaltyShape]


class ReasonShape(msgspec.Struct):
    """One reason: a code and the sentence's words for programs, the sentence for people (extension)."""

    code: str
    sentence: str
    about: str
    until: Date | None
    data: dict[str, str | int]


class ExplanationShape(msgspec.Struct):
    """Why a Device runs what it runs and not something else (extension)."""

    device_sid: DeviceSidText
    unique_name: str | None
    controller_id: str | None
    reported_sid: AppSidText | None
    target_sid: AppSidText | None
    update_status: str
    instructed_by: RolloutSidText | None
    date_instructed: Date | None
    update_number: int | None
    update_state: str | None
    reasons: list[ReasonShape]
    date: Date


class RolloutDeviceShape(msgspec.Struct):
    """What became of one Device in a rollout (extension).

    ``evidence``: its result counts for the guard; if it does not yet, ``evidence_from`` says when it will.
    """

    rollout_sid: RolloutSidText
    device_sid: DeviceSidText
    wave: int
    state: str
    reason: str
    error_code: int
    update_number: int | None
    attempts: int
    app_sid: AppSidText | None
    previous_sid: AppSidText | None
    evidence: bool
    evidence_from: Date | None
    date_offered: Date
    date_changed: Date


def rollout_shape(view: View, now: Millis, urls: Urls) -> RolloutShape:
    """Show a rollout."""
    rollout = view.rollout
    evidence = view.counted.evidence
    between = guard.bounds(evidence, rollout.guard.confidence)
    waits = waits_for(view, now)
    url = urls.rollout(rollout.rollout_sid)
    return RolloutShape(
        sid=rollout.rollout_sid,
        account_sid=rollout.account_sid,
        friendly_name=rollout.friendly_name,
        kind=rollout.kind,
        app_sid=rollout.app_sid,
        rollback_of=rollout.rollback_of,
        selector=rollout.selector,
        state=rollout.state,
        wave=rollout.wave,
        waves=[_wave_shape(wave, view) for wave in view.waves],
        counts={**rules.total(view.counted.counts)},
        uncounted=evidence.uncounted,
        removed_devices=view.counted.removed,
        failure_rate=round(evidence.bad / evidence.total, _DIGITS) if evidence.total else None,
        failure_rate_lower=round(between.lower, _DIGITS),
        failure_rate_upper=round(between.upper, _DIGITS),
        guard=GuardShape(**msgspec.structs.asdict(rollout.guard)),
        decision=None if view.ruling is None else decision_shape(view.ruling),
        waits_for=None if waits is None else WaitsForShape(waits.code, waits.sentence, iso_or_none(waits.until)),
        known_since=iso_or_none(rollout.date_started if rollout.known_by == "start" else rollout.known_since),
        max_concurrent=rollout.concurrent_max,
        starts_per_minute=rollout.starts_per_minute,
        retrying=rollout.date_retry is not None,
        canceling=rollout.canceling,
        date_start=iso_or_none(rollout.date_start),
        date_started=iso_or_none(rollout.date_started),
        date_ended=iso_or_none(rollout.date_ended),
        date_created=iso(rollout.date_created),
        date_updated=iso(rollout.date_updated),
        url=url,
        links={"plan": f"{url}/Plan", "decisions": f"{url}/Decisions", "devices": f"{url}/Devices"},
    )


def _wave_shape(wave: Wave, view: View) -> WaveShape:
    state = "released" if wave.date_released else "open" if wave.date_opened else "waiting"
    return WaveShape(
        position=wave.position,
        size=size_of(wave),
        state=state,
        threshold=None if wave.threshold is None else wave.threshold / SCALE,
        counts={**view.counted.counts.get(wave.position, {})},
        date_opened=iso_or_none(wave.date_opened),
        date_offered=iso_or_none(wave.date_offered),
        date_settled=iso_or_none(wave.date_settled),
        date_released=iso_or_none(wave.date_released),
    )


def size_of(wave: Wave) -> str:
    """Render how far a wave goes, as it was given."""
    return str(wave.devices) if wave.percent_ppm is None else f"{wave.percent_ppm * 100 / MILLION:g}%"


def decision_shape(ruling: Ruling) -> DecisionShape:
    """Show a decision."""
    return DecisionShape(
        number=ruling.number,
        wave=ruling.wave,
        verdict=ruling.verdict,
        code=ruling.code,
        sentence=ruling.sentence,
        numbers=msgspec.json.decode(ruling.data, type=dict[str, Any]),
        date_created=iso(ruling.date_created),
    )


def plan_shape(rollout: Rollout, plan: Plan, waves: tuple[Wave, ...]) -> PlanShape:
    """Show a plan."""
    sizes = {wave.position: size_of(wave) for wave in waves}
    return PlanShape(
        rollout_sid=rollout.rollout_sid,
        selected=plan.selected,
        beyond=plan.beyond,
        waves=[
            PlannedWaveShape(
                position=wave.position,
                size=sizes[wave.position],
                threshold=wave.threshold / SCALE,
                devices=wave.devices,
                unchanged=wave.unchanged,
                new=wave.new,
                sample=wave.sample,
            )
            for wave in plan.waves
        ],
        left_out=[_left_out_shape(group) for group in plan.left_out],
        warnings=list(plan.warnings),
    )


def _left_out_shape(group: LeftOut) -> LeftOutShape:
    return LeftOutShape(group.reason, group.devices, group.sample)


def rollout_device_shape(member: Member) -> RolloutDeviceShape:
    """Show what became of a device."""
    return RolloutDeviceShape(
        rollout_sid=member.rollout_sid,
        device_sid=member.device_sid,
        wave=member.wave,
        state=member.state,
        reason=member.reason,
        error_code=member.error_code,
        update_number=member.number,
        attempts=member.attempts,
        app_sid=member.app_sid,
        previous_sid=member.previous_sid,
        evidence=member.is_evidence,
        evidence_from=iso_or_none(member.evidence_from or None),
        date_offered=iso(member.date_offered),
        date_changed=iso(member.date_changed),
    )


def penalties_shape(device_sid: str, penalties: list[Penalty]) -> PenaltiesShape:
    """Show what a device failed."""
    shown = [PenaltyShape(each.app_sid, each.failures, each.held, iso(each.date_failed)) for each in penalties]
    return PenaltiesShape(device_sid, shown)


def explanation_shape(explanation: Explanation) -> ExplanationShape:
    """Show why a device runs what it runs."""
    facts, device = explanation.facts, explanation.facts.device
    update = device.update
    return ExplanationShape(
        device_sid=device.device_sid,
        unique_name=device.unique_name,
        controller_id=device.controller_id,
        reported_sid=device.reported_sid,
        target_sid=device.target_sid,
        update_status=device.update_status,
        instructed_by=facts.instructed_by,
        date_instructed=iso_or_none(facts.date_instructed),
        update_number=None if update is None else update.number,
        update_state=None if update is None else update.state.value,
        reasons=[
            ReasonShape(reason.code, reason.sentence, reason.about, iso_or_none(reason.until), reason.data)
            for reason in explanation.reasons
        ],
        date=iso(explanation.date),
    )
