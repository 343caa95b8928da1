"""Removes everything of accounts that end, chunk by chunk, and at last their rows.

Each chunk is one transaction and finds anew what there is, so a kill in the middle, or two nodes at once, lose and
double nothing. Devices go first, then what names apps, then apps: their bytes go with the sweep, after its grace. The
events of the account go last, so that they tell of the ending while it lasts. The last update number of its devices
stays, so that it does not come back. An answer that was under way may still have added something: it is found by the
next round.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.accounts import store as accounts_store
from fleetvisor.features.apps import store as apps_store
from fleetvisor.features.configs import store as configs_store
from fleetvisor.features.devices import store as devices_store
from fleetvisor.features.events import store as events
from fleetvisor.features.updates import numbers
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.sids import AccountSid, AppSid, DeviceSid
from fleetvisor.obs.health import beat

_ENDING: Final = "SELECT account_sid FROM accounts WHERE status = 'ending' ORDER BY account_sid LIMIT 1"
_DEVICES: Final = """
SELECT device_sid FROM devices WHERE account_sid = :account_sid ORDER BY date_created, device_sid LIMIT :limit"""
_APPS: Final = """
SELECT app_sid FROM apps WHERE account_sid = :account_sid ORDER BY date_created, app_sid LIMIT :limit"""
#: What has no rows of other tables behind it but those that go with it, in the order in which it goes.
_ROWS: Final = (
    """DELETE FROM rollouts WHERE rollout_sid IN (SELECT rollout_sid FROM rollouts
        WHERE account_sid = :account_sid ORDER BY date_created, rollout_sid LIMIT :limit)""",
    """DELETE FROM configs WHERE account_sid = :account_sid AND (owner_sid, store, key) IN (
        SELECT owner_sid, store, key FROM configs WHERE account_sid = :account_sid
        ORDER BY owner_sid, store, key LIMIT :limit)""",
    """DELETE FROM device_keys WHERE account_sid = :account_sid AND key_hash IN (SELECT key_hash FROM device_keys
        WHERE account_sid = :account_sid ORDER BY key_hash LIMIT :limit)""",
    """DELETE FROM enrollment_tokens WHERE token_sid IN (SELECT token_sid FROM enrollment_tokens
        WHERE account_sid = :account_sid ORDER BY date_created, token_sid LIMIT :limit)""",
    """DELETE FROM keys WHERE key_sid IN (SELECT key_sid FROM keys
        WHERE account_sid = :account_sid ORDER BY date_created, key_sid LIMIT :limit)""",
    "DELETE FROM gateway_tokens WHERE account_sid = :account_sid AND :limit > 0",
)
_EVENTS: Final = """DELETE FROM events WHERE event_id IN (SELECT event_id FROM events
    WHERE account_sid = :account_sid ORDER BY date_created, event_id LIMIT :limit)"""


class _Account(msgspec.Struct, frozen=True):
    account_sid: AccountSid


class _Device(msgspec.Struct, frozen=True):
    device_sid: DeviceSid


class _App(msgspec.Struct, frozen=True):
    app_sid: AppSid


class Closer:
    """The background job that removes accounts."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what the job needs."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus

    async def tick(self) -> int:
        """Remove the accounts that end; return in how many chunks."""
        chunks = 0
        while (account := await self._db.one(_Account, _ENDING, {})) is not None:
            while await self.step(account.account_sid):
                chunks += 1
                beat()
        return chunks

    async def step(self, account_sid: AccountSid) -> bool:
        """Remove one chunk of what an account that ends has; return whether there may be more."""
        more, rung = await self._db.write(_chunk(account_sid, self._limits.account_chunk, self._clock.now()))
        self._bus.ring(rung)
        return more


def _chunk(account_sid: AccountSid, limit: int, now: Millis) -> Callable[[Tx], Awaitable[tuple[bool, list[DeviceSid]]]]:
    """Remove a chunk; the body returns whether there may be more, and the devices that went."""
    keys = {"account_sid": account_sid, "limit": limit}

    async def body(tx: Tx) -> tuple[bool, list[DeviceSid]]:
        tenant = await accounts_store.find_tenant(tx, account_sid)
        if tenant is None or tenant.status != "ending":
            return False, []
        devices = [row.device_sid for row in await tx.all(_Device, _DEVICES, keys)]
        if devices:
            await numbers.retire(tx, devices)
            for device_sid in devices:
                await configs_store.delete_of_device(tx, account_sid, device_sid)
                await devices_store.delete(tx, account_sid, device_sid)
            return True, devices
        if await tx.run(_ROWS[0], keys):
            return True, []
        apps = await tx.all(_App, _APPS, keys)
        for row in apps:
            await apps_store.delete(tx, account_sid, row.app_sid, now)
        if apps or sum([await tx.run(sql, keys) for sql in _ROWS[1:]]) or await tx.run(_EVENTS, keys):
            return True, []
        await accounts_store.delete(tx, account_sid)
        first = await accounts_store.find_first(tx)
        if first is not None:
            owner = first.account_sid
            await events.append(tx, account_sid=owner, type="account.ended", subject_sid=account_sid, now=now)
        return False, []

    return body
