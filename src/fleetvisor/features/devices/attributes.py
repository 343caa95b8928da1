"""What a device says about itself: keys and values, merged, replaced or removed by it.

An attribute decides nothing, it is shown. Bounded in number and size: what is beyond a bound is left out, and the
event of the change counts and names it; the rest counts.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import store as events
from fleetvisor.features.updates import store as updates_store
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import is_text
from fleetvisor.ground.sids import AccountSid, DeviceSid
from fleetvisor.protocol.lenient import readable

_NAMED_MAX: Final = 5
_NAME_CHARS_MAX: Final = 40


class _Pair(msgspec.Struct, frozen=True):
    key: str
    value: str


class _Key(msgspec.Struct, frozen=True):
    key: str


class _Row(msgspec.Struct, frozen=True):
    date_attributes: Millis | None


class AttributeSet(msgspec.Struct, frozen=True):
    """A device's attributes by key, and when it last sent some."""

    attributes: dict[str, str]
    date_updated: Millis | None


class Attributes:
    """The verbs on attributes."""

    def __init__(self, *, db: Database, clock: Clock, limits: Limits, bus: Bus) -> None:
        """Keep what the verbs need."""
        self._db = db
        self._clock = clock
        self._limits = limits
        self._bus = bus

    async def get(self, account_sid: AccountSid, device_sid: DeviceSid) -> AttributeSet:
        """Return what a device of the account said of itself; nothing, when it never did."""
        keys = {"account_sid": account_sid, "device_sid": device_sid}
        sql = """SELECT t.key, t.value FROM device_attributes t JOIN devices d ON d.device_sid = t.device_sid
            WHERE d.account_sid = :account_sid AND d.device_sid = :device_sid ORDER BY t.key"""
        pairs = await self._db.all(_Pair, sql, keys)
        sql = "SELECT date_attributes FROM assignments WHERE account_sid = :account_sid AND device_sid = :device_sid"
        row = await self._db.one(_Row, sql, keys)
        return AttributeSet({pair.key: pair.value for pair in pairs}, row.date_attributes if row else None)

    async def change(
        self,
        identity: DeviceIdentity,
        mode: Literal["merge", "replace", "remove"],
        data: dict[str, str],
        left_out: Sequence[str] = (),
    ) -> None:
        """Merge, replace or remove (by key) attributes of a device; what breaks a bound is left out.

        ``left_out``: keys that it sent with a value that is no text. The change's event counts and names all of them.
        """
        good = {key: value for key, value in data.items() if self._may_be(key, value)}
        bad = [*left_out, *(key for key in data if key not in good)]
        now = self._clock.now()
        device = {"device_sid": identity.device_sid}

        async def body(tx: Tx) -> None:
            if mode == "replace":
                await tx.run("DELETE FROM device_attributes WHERE device_sid = :device_sid", device)
            over = [] if mode == "remove" else await self._over(tx, identity.device_sid, good)
            for key, value in good.items():
                if mode == "remove":
                    sql = "DELETE FROM device_attributes WHERE device_sid = :device_sid AND key = :key"
                    await tx.run(sql, {**device, "key": key})
                elif key not in over:
                    sql = """INSERT INTO device_attributes (device_sid, key, value) VALUES (:device_sid, :key, :value)
                        ON CONFLICT (device_sid, key) DO UPDATE SET value = excluded.value"""
                    await tx.run(sql, {**device, "key": key, "value": value})
            await updates_store.note_attributes(tx, identity.account_sid, identity.device_sid, now)
            await events.append_of_device(
                tx,
                identity.account_sid,
                identity.device_sid,
                "device.attributes",
                {"mode": mode, "count": len(good) - len(over), **_told([*bad, *over])},
                now,
            )

        await self._db.write(body)
        self._bus.ring((identity.device_sid,))

    async def _over(self, tx: Tx, device_sid: DeviceSid, data: Iterable[str]) -> list[str]:
        """Return the keys of ``data`` for which a device has no room left, the last ones that it sent."""
        sql = "SELECT key FROM device_attributes WHERE device_sid = :device_sid"
        there = {row.key for row in await tx.all(_Key, sql, {"device_sid": device_sid})}
        new = [key for key in data if key not in there]
        return new[max(0, self._limits.attributes_max - len(there)) :]

    def _may_be(self, key: str, value: str) -> bool:
        limits = self._limits
        return (
            0 < len(key) <= limits.attribute_key_chars_max
            and len(value) <= limits.attribute_value_chars_max
            and is_text(key)
            and is_text(value)
        )


def _told(left_out: Sequence[str]) -> dict[str, str | int | None]:
    """Return what an event says of attributes that were left out: how many, and the first of their keys."""
    if not left_out:
        return {"left_out": 0}
    names = ", ".join(readable(key[:_NAME_CHARS_MAX]) for key in left_out[:_NAMED_MAX])
    return {"left_out": len(left_out), "left_out_keys": names}
