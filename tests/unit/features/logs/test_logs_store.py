"""The switch for logging: on until a time, off, and gone with its device."""

import msgspec
from tests.unit.features.stage import stage

from fleetvisor.features.logs import store


class Expiry(msgspec.Struct):
    date_expires: int


async def expiry(at, device):
    sql = "SELECT date_expires FROM device_logging WHERE device_sid = :d"
    row = await at.db.one(Expiry, sql, {"d": device})
    return row and row.date_expires


async def test_switching_on_again_moves_the_deadline_and_off_removes_it():
    at = await stage()
    device = await at.add_device(at.account)
    for wanted in (1000, 2000, 500, None, None):
        await at.db.write(lambda tx, wanted=wanted: store.switch(tx, device, wanted))
        assert await expiry(at, device) == wanted


async def test_the_switch_of_one_device_leaves_another_alone():
    at = await stage()
    one, two = await at.add_device(at.account), await at.add_device(at.account)
    await at.db.write(lambda tx: store.switch(tx, one, 1000))
    await at.db.write(lambda tx: store.switch(tx, two, None))
    assert await expiry(at, one) == 1000
