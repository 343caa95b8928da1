"""The numbers of updates: drawn so that none comes back.

A board remembers the last number under its controller id, and some skip a number that they had and report success. So a
new number is above the device's last one, above those of removed devices, and not below the seconds since 2020: also a
server that was restored from a backup gives no number twice. ``rules.next_number`` decides.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fleetvisor.db.database import Tx
from fleetvisor.features.updates import rules
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.errors import Conflict
from fleetvisor.ground.sids import DeviceSid

_LAST: Final = "SELECT device_sid, last_number FROM update_numbers WHERE device_sid IN (:keys)"
_FLOOR: Final = "SELECT last_number FROM number_floor WHERE one = 1"
_WRITE: Final = """
INSERT INTO update_numbers (device_sid, last_number) VALUES (:device_sid, :number)
ON CONFLICT (device_sid) DO UPDATE SET last_number = excluded.last_number"""
_RAISE: Final = """
INSERT INTO number_floor (one, last_number) VALUES (1, :number)
ON CONFLICT (one) DO UPDATE SET last_number = excluded.last_number
    WHERE number_floor.last_number < excluded.last_number"""


class _Last(msgspec.Struct, frozen=True):
    device_sid: DeviceSid
    last_number: int


class _Floor(msgspec.Struct, frozen=True):
    last_number: int


async def draw(tx: Tx, device_sids: Sequence[DeviceSid], now: Millis) -> dict[DeviceSid, int]:
    """Draw the next number of each device. Raises ``Conflict`` when a device has had the last one."""
    if not device_sids:
        return {}
    floor = await tx.one(_Floor, _FLOOR, {})
    least = floor.last_number if floor is not None else 0
    last = {row.device_sid: row.last_number for row in await tx.read_many(_Last, _LAST, device_sids)}
    drawn: dict[DeviceSid, int] = {}
    for device_sid in device_sids:
        number = rules.next_number(max(last.get(device_sid, 0), least), now)
        if number is None:
            raise Conflict(
                f"The Device {device_sid} has used the last update number. Register the board as a new Device."
            )
        drawn[device_sid] = number
    await tx.write_many(_WRITE, [{"device_sid": sid, "number": number} for sid, number in drawn.items()])
    return drawn


async def retire(tx: Tx, device_sids: Sequence[DeviceSid]) -> None:
    """Keep the numbers of devices, which are removed or lose their controller id, from coming back for another one."""
    last = [row.last_number for row in await tx.read_many(_Last, _LAST, device_sids)]
    if last:
        await tx.run(_RAISE, {"number": max(last)})
