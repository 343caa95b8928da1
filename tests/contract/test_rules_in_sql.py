"""Rules that exist twice, in Python and in SQL: both say the same of every combination, on every engine."""

from itertools import product

import msgspec

from fleetvisor.features.devices.selection import STATUS
from fleetvisor.features.updates.rules import LastUpdate, update_status
from fleetvisor.protocol.lifecycle import State

_ASK = f"""SELECT {STATUS} AS value FROM
    (SELECT CAST(:target_sid AS TEXT) AS target_sid, CAST(:target_hash AS TEXT) AS target_hash,
        CAST(:reported_hash AS TEXT) AS reported_hash, CAST(:reached AS INTEGER) AS target_reached) a
    CROSS JOIN (SELECT CAST(:number AS INTEGER) AS number, CAST(:app_sid AS TEXT) AS app_sid,
        CAST(:state AS TEXT) AS state) u"""


class Text(msgspec.Struct):
    value: str


async def test_the_status_of_a_device_is_the_same_in_python_and_in_sql(database):
    targets = [(None, None), ("KA1", "h1")]
    lasts = [None, *(LastUpdate(app, state, 7) for app in ("KA1", "KA2") for state in State)]
    seen = set()
    for (target_sid, target_hash), reported, reached, last in product(targets, [None, "h1", "h2"], [0, 1], lasts):
        expected = update_status(
            target_sid=target_sid,
            target_hash=target_hash,
            reported_hash=reported,
            target_reached=bool(reached),
            last=last,
        ).status
        keys = {"target_sid": target_sid, "target_hash": target_hash, "reported_hash": reported, "reached": reached}
        update = {"number": None, "app_sid": None, "state": None}
        if last is not None:
            update = {"number": 1, "app_sid": last.app_sid, "state": last.state.value}
        found = await database.one(Text, _ASK, keys | update)
        assert found.value == expected, (keys, update)
        seen.add((expected, None if last is None else last.state, reached))
    assert len(seen) > 30
