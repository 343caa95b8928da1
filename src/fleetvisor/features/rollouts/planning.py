"""What a rollout would do if it began now: which devices each wave would touch, and which it would leave out, and why.

Walks every device that is selected. Deliberately writes nothing. A draft's waves are cut as its start would cut them.
"""

from collections.abc import Sequence

import msgspec

from fleetvisor.db.database import Database
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.apps.model import App
from fleetvisor.features.rollouts import fate, members, rules, store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.rollouts.population import PIECES_MAX, Census, Population, device_sids
from fleetvisor.ground.clock import Clock, Millis, later
from fleetvisor.ground.limits import Limits


class PlannedWave(msgspec.Struct):
    """How many devices a wave would come to, how many run the app already, and the first of them by age.

    ``new``: how many do not count as evidence, or enrolled by themselves only lately.
    """

    position: int
    threshold: int
    devices: int = 0
    unchanged: int = 0
    new: int = 0
    sample: list[str] = msgspec.field(default_factory=list[str])


class LeftOut(msgspec.Struct):
    """How many devices are left out for one reason, and the first of them by age."""

    reason: str
    devices: int = 0
    sample: list[str] = msgspec.field(default_factory=list[str])


class Plan(msgspec.Struct, frozen=True):
    """The whole plan. ``beyond``: devices that lie in no wave, because the last goes not so far."""

    selected: int
    beyond: int
    waves: tuple[PlannedWave, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say which waves are mostly too new to prove anything."""
        return tuple(
            f"Wave {wave.position} is mostly new: {wave.new} of its {wave.devices} devices enrolled by themselves only"
            " lately, or do not count as evidence. Check where they come from; KnownSince says who counts."
            for wave in self.waves
            if wave.new * 2 > wave.devices
        )


class Planner:
    """Makes plans."""

    def __init__(self, *, db: Database, clock: Clock, population: Population, limits: Limits) -> None:
        """Keep what a plan is made from."""
        self._db = db
        self._clock = clock
        self._population = population
        self._limits = limits

    async def plan(self, rollout: Rollout, sample: int) -> Plan:
        """Plan a rollout; ``sample``: how many devices of each wave and reason to name."""
        now = self._clock.now()
        if rollout.date_started is None:
            rollout = msgspec.structs.replace(rollout, date_started=now)
        waves = await store.waves(self._db, rollout.rollout_sid)
        fixed: Sequence[int] = [wave.threshold for wave in waves if wave.threshold is not None]
        if len(fixed) < len(waves):
            census = Census(rollout, waves)
            while not await self._population.count(census, PIECES_MAX):
                pass
            fixed = await self._population.thresholds(census)
        planned = tuple(PlannedWave(wave.position, threshold) for wave, threshold in zip(waves, fixed, strict=True))
        out: dict[str, LeftOut] = {}
        apps: dict[str, App | None] = {}
        selected = beyond = 0
        async for spots in self._population.walk(rollout):
            selected += len(spots)
            facts = {row.device_sid: row for row in await members.facts(self._db, rollout, device_sids(spots))}
            for sid in device_sids(spots):
                wave = rules.wave_of(rules.place(rollout.rollout_sid, sid), fixed)
                if wave > len(planned):
                    beyond += 1
                elif sid in facts:
                    new = self._is_new(rollout, facts[sid], wave, len(planned), now)
                    await self._put(rollout, facts[sid], planned[wave - 1], out, apps, sample, new=new)
        return Plan(selected, beyond, planned, tuple(sorted(out.values(), key=lambda each: -each.devices)))

    async def _put(
        self,
        rollout: Rollout,
        facts: members.Facts,
        wave: PlannedWave,
        out: dict[str, LeftOut],
        apps: dict[str, App | None],
        sample: int,
        *,
        new: bool,
    ) -> None:
        app_sid = fate.app_sid_for(rollout, facts.source)
        if app_sid is not None and app_sid not in apps:
            apps[app_sid] = await apps_store.find_in(self._db, rollout.account_sid, app_sid)
        app = None if app_sid is None else apps[app_sid]
        decided = self._decide(rollout, facts, app)
        if decided.outcome == "other":  # it left the rollback's reach since the walk came by
            return
        if decided.outcome != "take":
            reason = decided.reason or decided.outcome
            group = out.setdefault(reason, LeftOut(reason))
            group.devices += 1
            if len(group.sample) < sample:
                group.sample.append(facts.device_sid)
            return
        wave.devices += 1
        wave.new += int(new)
        wave.unchanged += int(app is not None and facts.reported_hash == app.manifest_hash)
        if len(wave.sample) < sample:
            wave.sample.append(facts.device_sid)

    def _is_new(self, rollout: Rollout, facts: members.Facts, wave: int, waves: int, now: Millis) -> bool:
        after_s = self._limits.new_device_s
        origin = rules.Origin(facts.date_created, facts.by_operator)
        lately = not origin.by_operator and later(origin.date_created, after_s) > now
        return lately or rules.evidence_from(rollout, wave, waves, origin, after_s=after_s, now=now) != 0

    def _decide(self, rollout: Rollout, facts: members.Facts, app: App | None) -> fate.Fate:
        subject = fate.Subject(
            access=facts.access,
            hardware_class=facts.hardware_class,
            counter=facts.counter,
            instructed_by=facts.rollout_sid,
            date_instructed=facts.date_instructed,
            failures=facts.failures,
            source=facts.source,
        )
        return fate.decide(rollout, subject, app, self._limits.penalty_failures)
