"""What holds a rollout whose app has damaged bytes: nothing is offered that a device could not download.

A release is held as a whole. A rollback leaves out the devices whose previous app is damaged, goes on with the others,
and is held before its end. Devices whose update failed meanwhile are ``skipped`` with the reason ``damaged``: that is
no evidence, and they are come to again once the bytes are right. The guard may stop a rollout that is held.
"""

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.rollouts import members, store
from fleetvisor.features.rollouts.model import Rollout
from fleetvisor.features.updates import rollout_devices
from fleetvisor.ground.clock import Millis


async def is_held(source: Tx | Database, rollout: Rollout) -> bool:
    """Return whether the app that a release offers is damaged."""
    return rollout.app_sid is not None and bool(await apps_store.damaged(source, (rollout.app_sid,)))


async def may_proceed(tx: Tx, rollout: Rollout, now: Millis, *, last: bool) -> bool:
    """Return whether a wave may be released; once bytes are right again, come to the devices that waited for that."""
    if await is_held(tx, rollout):
        return False
    if not await members.has_damaged(tx, rollout):
        return True
    if rollout.kind == "rollback":
        if not last:
            return True
        if await members.has_damaged_still(tx, rollout):
            return False
    await rollout_devices.end_damage(tx, rollout.account_sid, rollout.rollout_sid)
    await store.set_wave(tx, rollout.rollout_sid, rollout.wave, date_offered=None, date_settled=None)
    await store.step(tx, rollout, now, scan_created=None, scan_sid=None, date_scanned=None)
    return False
