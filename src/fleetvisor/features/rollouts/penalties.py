"""Penalties: a device that failed an app too often is passed by when a rollout offers it, until it is released.

``features/updates/rollout_devices`` counts the failures where updates close. Targeting the device directly lifts its
penalty for that app too.
"""

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.events import store as events
from fleetvisor.features.rollouts.model import Penalty
from fleetvisor.features.updates import rollout_devices
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid


class _Row(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    app_sid: AppSid
    failures: int
    date_failed: Millis


class Penalties:
    """The verbs on penalties."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._limits = limits

    async def list(self, account_sid: AccountSid, device_sid: DeviceSid) -> list[Penalty]:
        """Return the apps that there are that a device failed, the newest failure first; at most 1000."""
        sql = """SELECT f.device_sid, f.app_sid, f.failures, f.date_failed FROM app_failures f
            JOIN apps a ON a.app_sid = f.app_sid AND a.account_sid = f.account_sid
            WHERE f.device_sid = :device_sid AND f.account_sid = :account_sid
            ORDER BY f.date_failed DESC, f.app_sid LIMIT 1000"""
        rows = await self._db.all(_Row, sql, {"device_sid": device_sid, "account_sid": account_sid})
        most = self._limits.penalty_failures
        return [
            Penalty(row.device_sid, row.app_sid, row.failures, row.failures >= most, row.date_failed) for row in rows
        ]

    async def release(self, account_sid: AccountSid, device_sid: DeviceSid, app_sid: str) -> None:
        """Forget that a device failed an app. Raises ``NotFound`` when it did not."""
        now = self._clock.now()

        async def body(tx: Tx) -> None:
            if not await rollout_devices.lift(tx, account_sid, device_sid, app_sid):
                raise NotFound("The Device has no penalty for this App, or the penalty was already lifted.")
            await events.append(
                tx,
                account_sid=account_sid,
                type="device.penalty_lifted",
                subject_sid=app_sid,
                device_sid=device_sid,
                now=now,
            )

        await self._db.write(body)
