"""Controller ids: what a board calls itself when it polls, apart from the name that people give its Device.

A board in the field goes on asking by the id that it was built with, so a rename leaves the id alone. A device gets its
first unique name as its id. Unique in the account.
"""

from typing import Final

import msgspec

from fleetvisor.db.database import Database, Tx
from fleetvisor.features.updates import numbers
from fleetvisor.ground.errors import Conflict
from fleetvisor.ground.sids import AccountSid, DeviceSid

_FIND: Final = "SELECT device_sid FROM devices WHERE account_sid = :account_sid AND controller_id = :controller_id"
_SET: Final = """
UPDATE devices SET controller_id = :controller_id WHERE account_sid = :account_sid AND device_sid = :device_sid"""
_ADOPT: Final = """
UPDATE devices SET controller_id = :controller_id
WHERE account_sid = :account_sid AND device_sid = :device_sid AND controller_id IS NULL AND NOT EXISTS (
    SELECT 1 FROM devices o WHERE o.account_sid = :account_sid AND o.controller_id = :controller_id)"""


class _Sid(msgspec.Struct, frozen=True):
    device_sid: DeviceSid


async def find(source: Tx | Database, account_sid: AccountSid, controller_id: str) -> DeviceSid | None:
    """Read which device of the account a board means that asks by this id."""
    row = await source.one(_Sid, _FIND, {"account_sid": account_sid, "controller_id": controller_id})
    return None if row is None else row.device_sid


async def check_free(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, controller_id: str) -> None:
    """Raise ``Conflict`` when another device has the id."""
    holder = await find(tx, account_sid, controller_id)
    if holder is not None and holder != device_sid:
        raise Conflict(
            f"The Device {holder} already uses the controller id {controller_id!a}: give this one another"
            " ControllerId, or that one."
        )


async def give(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, controller_id: str | None) -> None:
    """Set or clear a device's id. Raises ``Conflict`` when another device has it.

    The board that had the id may ask for another device from now on: no number that it had comes back to it.
    """
    if controller_id is not None:
        await check_free(tx, account_sid, device_sid, controller_id)
    await numbers.retire(tx, [device_sid])
    await tx.run(_SET, {"account_sid": account_sid, "device_sid": device_sid, "controller_id": controller_id})


async def adopt(tx: Tx, account_sid: AccountSid, device_sid: DeviceSid, unique_name: str | None) -> None:
    """Take a device's name as its id, if it has none yet and no other device has it."""
    if unique_name is not None:
        await tx.run(_ADOPT, {"account_sid": account_sid, "device_sid": device_sid, "controller_id": unique_name})
