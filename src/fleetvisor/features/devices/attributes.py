"""What a device says about itself: keys and values, merged, replaced or removed by it.

Deliberately believed by nobody: an attribute decides nothing, it is shown. Bounded in number and size; a change that
would break a bound changes nothing.
"""

from typing import Literal

import msgspec

from fleetvisor.bus.bus import Bus
from fleetvisor.db.database import Database, Tx
from fleetvisor.features.devices.model import DeviceIdentity
from fleetvisor.features.events import store as events
from fleetvisor.ground.clock import Clock, Millis
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.names import is_text
from fleetvisor.ground.sids import AccountSid, DeviceSid


class _Pair(msgspec.Struct, frozen=True):
    key: str
    value: str


class _Count(msgspec.Struct, frozen=True):
    n: int


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
        """Give what a device of the account said of itself; nothing, when it never did."""
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
        left_out: int = 0,
    ) -> None:
        """Merge, replace or remove (by key) attributes of a device. Raises ``Invalid``.

        ``left_out``: how many more it sent that are no text; its event says so.
        """
        self._check(data)
        now = self._clock.now()
        device = {"device_sid": identity.device_sid}

        async def body(tx: Tx) -> None:
            if mode == "replace":
                await tx.run("DELETE FROM device_attributes WHERE device_sid = :device_sid", device)
            for key, value in data.items():
                if mode == "remove":
                    sql = "DELETE FROM device_attributes WHERE device_sid = :device_sid AND key = :key"
                    await tx.run(sql, {**device, "key": key})
                else:
                    sql = """INSERT INTO device_attributes (device_sid, key, value) VALUES (:device_sid, :key, :value)
                        ON CONFLICT (device_sid, key) DO UPDATE SET value = excluded.value"""
                    await tx.run(sql, {**device, "key": key, "value": value})
            sql = "SELECT count(*) AS n FROM device_attributes WHERE device_sid = :device_sid"
            count = await tx.one(_Count, sql, device)
            if count is None or count.n > self._limits.attributes_max:
                raise Invalid(f"A device has at most {self._limits.attributes_max} attributes.")
            sql = "UPDATE assignments SET date_attributes = :now, wants_attributes = 0 WHERE device_sid = :device_sid"
            await tx.run(sql, {**device, "now": now})
            await events.append(
                tx,
                account_sid=identity.account_sid,
                type="device.attributes",
                subject_sid=identity.device_sid,
                device_sid=identity.device_sid,
                data={"mode": mode, "count": len(data), "left_out": left_out},
                now=now,
            )

        await self._db.write(body)
        self._bus.ring((identity.device_sid,))

    def _check(self, data: dict[str, str]) -> None:
        limits = self._limits
        if len(data) > limits.attributes_max:
            raise Invalid(f"A device has at most {limits.attributes_max} attributes.")
        for key, value in data.items():
            if not key or len(key) > limits.attribute_key_chars_max:
                raise Invalid(f"An attribute's key has 1 to {limits.attribute_key_chars_max} characters.")
            if len(value) > limits.attribute_value_chars_max:
                raise Invalid(f"An attribute's value has at most {limits.attribute_value_chars_max} characters.")
            if not (is_text(key) and is_text(value)):
                raise Invalid("An attribute must not contain NUL or lone surrogates.")
