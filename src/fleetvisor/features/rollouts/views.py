"""What is shown of rollouts beside their own rows: waves, counts and newest decisions, in four reads for a page."""

from collections.abc import Sequence
from typing import Final

from fleetvisor.db.database import Database
from fleetvisor.features.rollouts import holding, store
from fleetvisor.features.rollouts.model import Counted, CountRow, Rollout, Ruling, View, Wave
from fleetvisor.ground.sids import RolloutSid

_WAVES: Final = """SELECT position, percent_ppm, devices, threshold, date_opened, date_offered, date_settled,
    date_released, rollout_sid
FROM rollout_waves WHERE rollout_sid IN ({sids}) ORDER BY rollout_sid, position"""
_COUNTS: Final = f"""SELECT {store.COUNTS}, rollout_sid
FROM rollout_counts WHERE rollout_sid IN ({{sids}}) GROUP BY rollout_sid, wave, state, evidence"""
_RULINGS: Final = """SELECT d.number, d.wave, d.verdict, d.code, d.sentence, d.data, d.date_created, d.rollout_sid
FROM rollout_decisions d WHERE d.rollout_sid IN ({sids})
    AND d.number = (SELECT MAX(m.number) FROM rollout_decisions m WHERE m.rollout_sid = d.rollout_sid)"""


class _Wave(Wave, frozen=True):
    rollout_sid: RolloutSid


class _Ruling(Ruling, frozen=True):
    rollout_sid: RolloutSid


class _Count(CountRow, frozen=True):
    rollout_sid: RolloutSid


async def view(db: Database, rollout: Rollout) -> View:
    """Read what is shown of one rollout."""
    (found,) = await views(db, (rollout,))
    return found


async def views(db: Database, rollouts: Sequence[Rollout]) -> list[View]:
    """Read what is shown of several rollouts, in their order."""
    if not rollouts:
        return []
    params = {f"r{place}": rollout.rollout_sid for place, rollout in enumerate(rollouts)}
    sids = ", ".join(f":{name}" for name in params)
    read = db.all if len(rollouts) == 1 else db.scan  # off the event loop, where that pays
    waves: dict[str, list[Wave]] = {}
    for wave in await read(_Wave, _WAVES.format(sids=sids), params):
        waves.setdefault(wave.rollout_sid, []).append(wave)
    counts: dict[str, list[CountRow]] = {}
    for row in await read(_Count, _COUNTS.format(sids=sids), params):
        counts.setdefault(row.rollout_sid, []).append(row)
    rulings = {ruling.rollout_sid: ruling for ruling in await read(_Ruling, _RULINGS.format(sids=sids), params)}
    held = await holding.held(db, rollouts)
    return [
        View(each, tuple(waves.get(sid, ())), Counted.of(counts.get(sid, ())), rulings.get(sid), sid in held)
        for each in rollouts
        for sid in (each.rollout_sid,)
    ]
