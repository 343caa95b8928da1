"""Rules that exist twice, in Python and in SQL: both say the same of every combination, on every engine."""

from itertools import product
from typing import get_args

import msgspec

from fleetvisor.features.devices.credentials import TOKEN_VALID
from fleetvisor.features.devices.selection import STATUS
from fleetvisor.features.identity import enrollment
from fleetvisor.features.identity.model import EnrollmentToken
from fleetvisor.features.identity.store import OPEN_GRANT
from fleetvisor.features.rollouts import rules
from fleetvisor.features.rollouts.members import EVIDENCE
from fleetvisor.features.rollouts.model import FINISHED, RolloutState
from fleetvisor.features.rollouts.store import UNDER_WAY
from fleetvisor.features.updates.model import Assignment, Member
from fleetvisor.features.updates.rollout_devices import GIVEN_UP
from fleetvisor.features.updates.rules import LastUpdate, update_status
from fleetvisor.features.updates.store import IS_ASKED
from fleetvisor.ground.clock import Millis, is_over
from fleetvisor.protocol.lifecycle import DeviceProtocol, State

NOW = Millis(1000)
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


class Truth(msgspec.Struct):
    value: bool


async def _says(database, condition, table, **columns):
    """Return what a condition of the product says of one row with these columns."""
    types = {name: "TEXT" if isinstance(value, str) else "INTEGER" for name, value in columns.items()}
    row = ", ".join(f"CAST(:{name} AS {types[name]}) AS {name}" for name in columns if name != "now")
    sql = f"SELECT CASE WHEN {condition} THEN 1 ELSE 0 END AS value FROM (SELECT {row}) {table}"
    return (await database.one(Truth, sql, columns)).value


def _bare(kind, **fields):
    """Make a struct of which only these fields matter."""
    return kind(**(dict.fromkeys(kind.__struct_fields__) | fields))


async def test_a_rollout_is_under_way_in_python_and_in_sql(database):
    seen = set()
    for state, canceling, removing in product(get_args(RolloutState), [0, 1], [0, 1]):
        expected = rules.is_unfinished(state) or bool(canceling or removing)
        ended = 7 if state in FINISHED else None
        row = {"state": state, "date_ended": ended, "canceling": canceling, "removing": removing}
        assert await _says(database, UNDER_WAY, "r", **row) is expected, row
        seen.add((state, expected))
    assert len(seen) == 12  # eight states; those that are not unfinished are under way only while they clear up


async def test_a_rollout_was_given_up_in_python_and_in_sql(database):
    found = {state: await _says(database, GIVEN_UP, "r", state=state) for state in get_args(RolloutState)}
    assert found == {state: rules.gave_up(state) for state in found}
    assert sorted(set(found.values())) == [False, True]


async def test_a_device_counts_as_evidence_in_python_and_in_sql(database):
    for since in (None, 0, 1, 1000):
        expected = _bare(Member, evidence_from=since).is_evidence
        assert await _says(database, f"{EVIDENCE} = 1", "m", evidence_from=since) is expected, since


async def test_a_protocol_is_asked_in_python_and_in_sql(database):
    found = {each: await _says(database, IS_ASKED, "a", protocol=each.value) for each in DeviceProtocol}
    assert found == {each: _bare(Assignment, protocol=each).is_asked for each in DeviceProtocol}
    assert sorted(set(found.values())) == [False, True]


async def test_a_device_token_is_over_in_python_and_in_sql(database):
    for expires in (None, Millis(0), Millis(999), NOW, Millis(1001)):
        valid = await _says(database, TOKEN_VALID, "t", date_expires=expires, now=NOW)
        assert valid is not is_over(expires, NOW), expires


async def test_an_enrolment_token_is_open_in_python_and_in_sql(database):
    seen = set()
    for uses, most, revoked, expires in product([0, 1, 2], [1, 2], [0, 1], [None, 999, 1000, 1001]):
        grant = _bare(EnrollmentToken, uses=uses, uses_max=most, revoked=bool(revoked), date_expires=expires)
        expected = enrollment.is_open(grant, NOW)
        row = {"uses": uses, "uses_max": most, "revoked": revoked, "date_expires": expires, "now": NOW}
        assert await _says(database, OPEN_GRANT, "e", **row) is expected, row
        seen.add(expected)
    assert seen == {False, True}
