"""What a rollout decides about its open wave: stored as a decision, and carried out in the same transaction.

``judge_wave`` is pure. ``Judgement.apply`` writes, in the transaction that read what it judged by. An operator's verbs
(``service``) and the ticker share ``append_event``, ``keep_decision`` and ``advance``.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.events import store as events
from fleetvisor.features.rollouts import guard, rules, store
from fleetvisor.features.rollouts.guard import Bounds, Decision, Evidence, Progress
from fleetvisor.features.rollouts.model import Counted, Rollout, Ruling, Wave
from fleetvisor.ground.clock import Millis
from fleetvisor.protocol.guard_settings import GuardSettings

_DIGITS: Final = 6
EMPTY: Final = "The wave has no devices, so it is skipped."


class Judgement(msgspec.Struct, frozen=True):
    """What to do with the open wave: its times as they should be, and what the guard says.

    ``begun``: the rollout came to a device of the wave, or looked through all of it. ``empty``: the wave has no device.
    """

    offered: Millis | None
    settled: Millis | None
    begun: bool
    empty: bool
    decision: Decision
    wave: Wave

    @property
    def moves_times(self) -> bool:
        """Whether the wave's times change."""
        return (self.offered, self.settled) != (self.wave.date_offered, self.wave.date_settled)

    def is_news(self, rollout: Rollout, ruling: Ruling | None) -> bool:
        """Return whether applying it would change anything. Of a wave not begun there is nothing to say but to stop."""
        if not self.begun and not self.decision.stops:
            return False
        goes_on = rollout.state == "running" and (self.empty or self.decision.proceeds)
        return self.moves_times or goes_on or self.decision.stops or self._is_new(rollout, ruling)

    def proceeds(self, rollout: Rollout) -> bool:
        """Return whether applying it would release the open wave."""
        return rollout.state == "running" and not self.decision.stops and (self.empty or self.decision.proceeds)

    def _is_new(self, rollout: Rollout, ruling: Ruling | None) -> bool:
        if self.decision.proceeds and rollout.state != "running":
            return False  # what releases the wave is said when it does: it may be something else by then
        said = None if ruling is None else (ruling.wave, ruling.verdict, ruling.code)
        return said != (rollout.wave, self.decision.verdict, self.decision.code)

    async def apply(
        self, tx: Tx, rollout: Rollout, waves: tuple[Wave, ...], ruling: Ruling | None, now: Millis
    ) -> bool:
        """Store the judgement and act on it; return whether the rollout took a step."""
        if self.moves_times:
            await store.set_wave(
                tx, rollout.rollout_sid, rollout.wave, date_offered=self.offered, date_settled=self.settled
            )
        decision = self.decision
        data = numbers_of(decision.evidence, decision.bounds, rollout.guard)
        if self.empty and rollout.state == "running" and not self.decision.stops:
            await keep_decision(tx, rollout, "release", "empty", EMPTY, data, now)
            return await advance(tx, rollout, waves, now)
        if self._is_new(rollout, ruling):
            await keep_decision(tx, rollout, decision.verdict, decision.code, decision.sentence, data, now)
        if decision.stops:
            stopped = await store.end(tx, rollout, "stopped", now, canceling=True)
            if stopped:
                await append_event(tx, rollout, "stopped", now, wave=rollout.wave, code=decision.code)
            return stopped
        if decision.proceeds and rollout.state == "running":
            return await advance(tx, rollout, waves, now)
        return self.moves_times


def judge_wave(rollout: Rollout, waves: tuple[Wave, ...], counted: Counted, now: Millis) -> Judgement:
    """Return what to do with the open wave. Pure."""
    wave = waves[rollout.wave - 1]
    settings = rollout.guard
    offered = wave.date_offered or (now if rollout.date_scanned is not None else None)
    every = rules.total(counted.counts)
    # Once all of it was offered, looking for late devices unsettles nothing before one is found.
    decided = offered is not None and every["updating"] == 0 and rollout.date_retry is None
    settled = (wave.date_settled or now) if decided else None
    soak_ms = settings.soak * 1000
    rested = settled is not None and now - settled >= soak_ms
    soaked = offered is not None and now - offered >= soak_ms
    progress = Progress(soaked, settled is not None, rested, last=rollout.wave == len(waves))
    here = counted.counts.get(rollout.wave, {})
    some = any(here.values())
    empty = rollout.date_scanned is not None and not some
    decision = guard.decide(counted.evidence, progress, settings)
    return Judgement(offered, settled, some or offered is not None, empty, decision, wave)


async def append_event(tx: Tx, rollout: Rollout, what: str, now: Millis, **data: str | int | None) -> None:
    """Append the event ``rollout.<what>``."""
    await events.append(
        tx,
        account_sid=rollout.account_sid,
        type=f"rollout.{what}",
        subject_sid=rollout.rollout_sid,
        data=data,
        now=now,
    )


async def keep_decision(
    tx: Tx, rollout: Rollout, verdict: str, code: str, sentence: str, data: str, now: Millis
) -> None:
    """Store a decision about the open wave."""
    ruling = Ruling(0, rollout.wave, verdict, code, sentence, data, now)
    await store.add_ruling(tx, rollout.account_sid, rollout.rollout_sid, ruling)


def numbers_of(evidence: Evidence, between: Bounds, settings: GuardSettings) -> str:
    """Return the numbers of a decision, as JSON."""
    numbers = {
        "succeeded": evidence.succeeded,
        "failed": evidence.failed,
        "silent": evidence.silent,
        "offline": evidence.offline,
        "uncounted": evidence.uncounted,
        "lower": round(between.lower, _DIGITS),
        "upper": round(between.upper, _DIGITS),
        "limit": settings.limit,
        "confidence": settings.confidence,
        "minimum_sample": settings.minimum_sample,
    }
    return msgspec.json.encode(numbers).decode()


async def advance(tx: Tx, rollout: Rollout, waves: tuple[Wave, ...], now: Millis) -> bool:
    """Release the open wave: open the next one, or complete the rollout. Return false if somebody took a step."""
    await store.set_wave(tx, rollout.rollout_sid, rollout.wave, date_released=now)
    if rollout.wave == len(waves):
        if not await store.end(tx, rollout, "completed", now, canceling=False):
            return False
        await append_event(tx, rollout, "completed", now)
        return True
    following = rollout.wave + 1
    opened = await store.step(tx, rollout, now, wave=following, scan_created=None, scan_sid=None, date_scanned=None)
    if opened:
        await store.set_wave(tx, rollout.rollout_sid, following, date_opened=now)
        await append_event(tx, rollout, "wave_opened", now, wave=following)
    return opened
