"""What the guard's answer means for the open wave: kept as a decision, and acted on.

``judge`` is pure; ``Judgement.apply`` writes, in the transaction that read what it judged by.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.rollouts import guard, rules, steps, store
from fleetvisor.features.rollouts.guard import Decision, Progress
from fleetvisor.features.rollouts.model import Counted, Rollout, Ruling, Wave
from fleetvisor.ground.clock import Millis

EMPTY: Final = "The wave has no devices, so it is skipped."


class Judgement(msgspec.Struct, frozen=True):
    """What is to be done with the open wave: its times as they should be, and what the guard says.

    ``begun``: a device of the wave was come to, or all of it was looked through. ``empty``: it was, and has no device.
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
        """Write what it says; return whether the rollout took a step."""
        if self.moves_times:
            await store.set_wave(
                tx, rollout.rollout_sid, rollout.wave, date_offered=self.offered, date_settled=self.settled
            )
        decision = self.decision
        data = steps.numbers_of(decision.evidence, decision.bounds, rollout.guard)
        if self.empty and rollout.state == "running" and not self.decision.stops:
            await steps.rule(tx, rollout, "release", "empty", EMPTY, data, now)
            return await steps.go_on(tx, rollout, waves, now)
        if self._is_new(rollout, ruling):
            await steps.rule(tx, rollout, decision.verdict, decision.code, decision.sentence, data, now)
        if decision.stops:
            stopped = await store.end(tx, rollout, "stopped", now, canceling=True)
            if stopped:
                await steps.note(tx, rollout, "stopped", now, wave=rollout.wave, code=decision.code)
            return stopped
        if decision.proceeds and rollout.state == "running":
            return await steps.go_on(tx, rollout, waves, now)
        return self.moves_times


def judge(rollout: Rollout, waves: tuple[Wave, ...], counted: Counted, now: Millis) -> Judgement:
    """Judge the open wave. Pure."""
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
