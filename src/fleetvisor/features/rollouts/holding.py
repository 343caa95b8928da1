"""What holds a rollout whose app has damaged bytes: nothing is offered that a device could not download.

A release is held as a whole. A rollback leaves out the devices whose previous app is damaged, goes on with the others,
and is held before its end. Devices whose update failed meanwhile are ``skipped`` with the reason ``damaged``: that is
no evidence, and they are come to again once the bytes are right. The guard may stop a rollout that is held.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.rollouts import store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates import members
from fleetvisor.ground.clock import Millis

_LEFT_BEHIND: Final = """SELECT rollout_sid, previous_sid FROM rollout_devices
    WHERE rollout_sid = :rollout_sid AND account_sid = :account_sid AND state = 'skipped' AND reason = 'damaged'
    LIMIT 1"""


class _Behind(msgspec.Struct, frozen=True):
    rollout_sid: str
    previous_sid: str | None


async def is_held(source: Tx | Database, rollout: Rollout) -> bool:
    """Return whether the app that a release offers is damaged."""
    return rollout.app_sid is not None and bool(await apps_store.damaged(source, (rollout.app_sid,)))


async def leaves_behind(source: Tx | Database, rollout: Rollout) -> bool:
    """Return whether devices wait until damaged bytes are right again."""
    return await source.one(_Behind, _LEFT_BEHIND, _keys(rollout)) is not None


async def held(db: Database, rollouts: Sequence[Rollout]) -> set[str]:
    """Return the SIDs of those rollouts under way that are held, or will be at their end."""
    running = [each for each in rollouts if each.state == "running"]
    damaged = await apps_store.damaged(db, [each.app_sid for each in running if each.app_sid is not None])
    found = {each.rollout_sid for each in running if each.app_sid in damaged}
    for each in running:
        if each.kind == "rollback" and await leaves_behind(db, each):
            found.add(each.rollout_sid)
    return set(found)


async def may_proceed(tx: Tx, rollout: Rollout, now: Millis, *, last: bool) -> bool:
    """Return whether a wave may be released; once bytes are right again, come to the devices that waited for that."""
    if await is_held(tx, rollout):
        return False
    if not await leaves_behind(tx, rollout):
        return True
    if rollout.kind == "rollback":
        if not last:
            return True
        if await _waits(tx, rollout):
            return False
    await members.end_damage(tx, rollout.account_sid, rollout.rollout_sid)
    await store.set_wave(tx, rollout.rollout_sid, rollout.wave, date_offered=None, date_settled=None)
    await store.step(tx, rollout, now, scan_created=None, scan_sid=None, date_scanned=None)
    return False


async def _waits(tx: Tx, rollout: Rollout) -> bool:
    sql = """SELECT m.rollout_sid, m.previous_sid FROM rollout_devices m
        JOIN rollout_devices s ON s.device_sid = m.device_sid AND s.rollout_sid = :source
        JOIN app_layers l ON l.app_sid = s.previous_sid JOIN layers b ON b.digest = l.digest
        WHERE m.rollout_sid = :rollout_sid AND m.account_sid = :account_sid
            AND m.state = 'skipped' AND m.reason = 'damaged' AND b.date_damaged IS NOT NULL LIMIT 1"""
    return await tx.one(_Behind, sql, {**_keys(rollout), "source": rollout.rollback_of}) is not None


def _keys(rollout: Rollout) -> dict[str, str]:
    return {"rollout_sid": rollout.rollout_sid, "account_sid": rollout.account_sid}
