"""Which tables a device's requests make larger: each table is judged, and says what bounds it."""

import dataclasses
import re

import msgspec

from fleetvisor.db.sqlite import memory
from fleetvisor.ground import stored
from fleetvisor.ground.limits import Limits


class Table(msgspec.Struct):
    name: str


async def test_every_table_is_judged_once():
    db = memory()
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    there = {row.name for row in await db.all(Table, sql, {})}
    await db.close()
    judged = [*stored.GROWN_BY_DEVICES, *stored.GROWN_BY_OPERATORS]
    assert len(judged) == len(set(judged))
    assert set(judged) == there, "say in ground/stored.py who makes the rows of a new table, and what bounds them"


def test_the_bounds_that_are_named_are_limits():
    tables = set(stored.GROWN_BY_DEVICES)
    named = {name for bound in stored.GROWN_BY_DEVICES.values() for name in re.findall(r"`(\w+)`", bound)}
    assert named - tables <= {field.name for field in dataclasses.fields(Limits)}
