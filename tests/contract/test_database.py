"""The contract of the database port, held by every adapter: the same statements do the same."""

import asyncio
import enum

import msgspec
import pytest

from fleetvisor.db.database import ConstraintViolated, DatabaseBusy, DatabaseFault, ReferenceViolated, UniqueViolated

INSERT = """INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created)
    VALUES (:sid, :ordinal, :hash, :sealed, 1)"""
BUMP = """INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 1)
    ON CONFLICT (device_sid) DO UPDATE SET last_number = update_numbers.last_number + 1 RETURNING last_number AS number"""
READ = "SELECT last_number AS number FROM update_numbers WHERE device_sid = :sid"
MANY = "SELECT device_sid FROM update_numbers WHERE device_sid IN (:keys)"


class Number(msgspec.Struct, frozen=True):
    number: int


class Sid(msgspec.Struct, frozen=True):
    device_sid: str


def account(sid, ordinal=1):
    return {"sid": sid, "ordinal": ordinal, "hash": b"\x00\xff", "sealed": b""}


async def bump(db, sid="UV1"):
    async def body(tx):
        return (await tx.one(Number, BUMP, {"sid": sid})).number

    return await db.write(body)


async def run(db, sql, params):
    async def body(tx):
        return await tx.run(sql, params)

    return await db.write(body)


async def test_an_upsert_returns_the_row_it_made_or_changed(database):
    assert [await bump(database), await bump(database)] == [1, 2]
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(2)
    assert await database.one(Number, READ, {"sid": "UV9"}) is None


async def test_what_was_committed_is_tallied_and_what_failed_is_not(database):
    async def refused(tx):
        await tx.run("DELETE FROM update_numbers", {})
        raise KeyError("refused")

    before = database.tally
    for _ in range(3):
        await bump(database)
    with pytest.raises(KeyError):
        await database.write(refused)
    await database.one(Number, READ, {"sid": "UV1"})
    after = database.tally
    assert after.writes - before.writes == 3
    assert after.repeats == before.repeats
    assert 3 <= after.commits - before.commits <= 4  # where writes share a transaction, one that fails may commit none


async def test_a_conflict_that_does_nothing_returns_nothing(database):
    sql = """INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 7)
        ON CONFLICT DO NOTHING RETURNING last_number AS number"""

    async def body(tx):
        return await tx.one(Number, sql, {"sid": "UV1"}), await tx.one(Number, sql, {"sid": "UV1"})

    assert await database.write(body) == (Number(7), None)


async def test_a_row_value_keyset_pages_in_order(database):
    for number in range(1, 8):
        params = {"sid": f"UV{number}", "n": number // 2}
        await run(database, "INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, :n)", params)
    sql = """SELECT device_sid FROM update_numbers WHERE (last_number, device_sid) > (:n, :sid)
        ORDER BY last_number, device_sid LIMIT 3"""
    assert [row.device_sid for row in await database.all(Sid, sql, {"n": 1, "sid": "UV2"})] == ["UV3", "UV4", "UV5"]
    assert await database.scan(Sid, sql, {"n": 9, "sid": ""}) == []


async def test_text_is_ordered_by_its_bytes(database):
    """Whatever language the operator's PostgreSQL sorts by: lists have the same order on every engine."""
    sids = ["UVa", "UVB", "UV_", "UV1", "UVé", "UVz", "UV", "UVA"]
    for sid in sids:
        await bump(database, sid)
    ordered = sorted(sids, key=str.encode)
    sql = "SELECT device_sid FROM update_numbers ORDER BY device_sid"
    assert [row.device_sid for row in await database.all(Sid, sql, {})] == ordered
    sql = "SELECT device_sid FROM update_numbers WHERE (last_number, device_sid) > (1, :sid) ORDER BY device_sid"
    assert [row.device_sid for row in await database.all(Sid, sql, {"sid": "UVB"})] == ordered[
        ordered.index("UVB") + 1 :
    ]


async def test_null_is_not_distinct_from_null(database):
    await run(database, INSERT, account("AC1"))
    device = """INSERT INTO devices (device_sid, account_sid, unique_name, date_created, date_updated)
        VALUES (:sid, 'AC1', :name, 1, 1)"""
    for sid, name in (("UV1", None), ("UV2", "boiler"), ("UV3", None)):
        await run(database, device, {"sid": sid, "name": name})
    sql = "SELECT device_sid FROM devices WHERE unique_name IS NOT DISTINCT FROM :name ORDER BY device_sid"
    assert [row.device_sid for row in await database.all(Sid, sql, {"name": None})] == ["UV1", "UV3"]
    assert [row.device_sid for row in await database.all(Sid, sql, {"name": "boiler"})] == ["UV2"]


async def test_an_update_takes_its_values_from_another_table(database):
    for sid in ("UV1", "UV2", "UV3"):
        await bump(database, sid)
    for sid, seen in (("UV1", 10), ("UV3", 30)):
        await run(database, "INSERT INTO presence (device_sid, date_seen) VALUES (:s, :n)", {"s": sid, "n": seen})
    sql = """UPDATE update_numbers SET last_number = last_number + presence.date_seen FROM presence
        WHERE presence.device_sid = update_numbers.device_sid AND presence.date_seen > :least"""
    assert await run(database, sql, {"least": 5}) == 2
    found = await database.all(Number, "SELECT last_number AS number FROM update_numbers ORDER BY last_number", {})
    assert found == [Number(1), Number(11), Number(31)]


async def test_a_body_sees_its_own_changes(database):
    async def body(tx):
        await tx.run(INSERT, account("AC1"))
        return await tx.all(Number, "SELECT count(*) AS number FROM accounts", {})

    assert await database.write(body) == [Number(1)]


async def test_bytes_nulls_and_text_come_back_as_they_went(database):
    class Row(msgspec.Struct, frozen=True):
        auth_token_hash: bytes
        absent: str | None
        text: str

    await run(database, INSERT, account("AC1"))
    sql = """SELECT auth_token_hash, CAST(:nothing AS TEXT) AS absent, CAST(:text AS TEXT) AS text FROM accounts
        WHERE CAST(:nothing AS TEXT) IS NOT DISTINCT FROM NULL"""
    row = await database.one(Row, sql, {"nothing": None, "text": "Grüße ☃ 𝄞"})
    assert row == Row(b"\x00\xff", None, "Grüße ☃ 𝄞")


async def test_flags_and_enumerations_are_converted_by_the_row_type(database):
    class Kind(enum.StrEnum):
        ONE = "UV1"

    class Row(msgspec.Struct, frozen=True):
        device_sid: Kind
        last_number: bool | None

    await run(database, "INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 1)", {"sid": "UV1"})
    row = await database.one(Row, "SELECT device_sid, last_number FROM update_numbers", {})
    assert row.device_sid is Kind.ONE
    assert row.last_number is True


async def test_columns_that_are_not_the_row_type_s_fields_are_an_error(database):
    """Also when there is no row to see it by, and inside a body."""
    with pytest.raises(TypeError, match="device_sid"):
        await database.one(Sid, "SELECT last_number FROM update_numbers", {})
    await bump(database)
    with pytest.raises(TypeError, match="device_sid"):
        await database.all(Sid, "SELECT device_sid, last_number FROM update_numbers", {})

    async def body(tx):
        await tx.one(Sid, BUMP, {"sid": "UV1"})

    with pytest.raises(TypeError, match="device_sid"):
        await database.write(body)
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(1)


async def test_run_counts_the_rows_it_changed(database):
    await bump(database)
    assert await run(database, "UPDATE update_numbers SET last_number = 5 WHERE device_sid = :sid", {"sid": "UV1"}) == 1
    assert await run(database, "UPDATE update_numbers SET last_number = 5 WHERE device_sid = :sid", {"sid": "UV2"}) == 0
    assert await run(database, "DELETE FROM update_numbers", {}) == 1


async def test_a_body_that_fails_leaves_nothing(database):
    async def body(tx):
        await tx.run(INSERT, account("AC1"))
        raise LookupError("no")

    with pytest.raises(LookupError):
        await database.write(body)
    assert await database.one(Number, "SELECT count(*) AS number FROM accounts", {}) == Number(0)
    assert await bump(database) == 1


async def test_failing_bodies_do_not_touch_their_neighbours(database):
    """Many bodies may share one commit; each is rolled back alone."""

    async def failing(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        raise LookupError("no")

    results = await asyncio.gather(
        *[bump(database) if n % 2 else database.write(failing) for n in range(40)], return_exceptions=True
    )
    assert sum(isinstance(result, LookupError) for result in results) == 20
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(20)


async def test_a_wrong_statement_or_broken_constraint_does_not_touch_its_neighbours(database):
    """The engine's own errors roll back no more than what the bodies raise."""

    async def taken(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await tx.run("INSERT INTO update_numbers (device_sid, last_number) VALUES ('UV1', 1)", {})

    async def wrong(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await tx.run("DELETE FROM nowhere", {})

    bodies = {0: lambda: bump(database), 1: lambda: database.write(taken), 2: lambda: database.write(wrong)}
    results = await asyncio.gather(*[bodies[n % 3]() for n in range(45)], return_exceptions=True)
    assert sorted(result for result in results if isinstance(result, int)) == list(range(1, 16))
    assert sum(isinstance(result, UniqueViolated) for result in results) == 15
    assert sum(type(result) is DatabaseFault for result in results) == 15


async def test_what_a_body_raises_comes_out_as_it_was(database):
    class Refused(Exception):
        pass

    error = Refused("no", 5)

    async def body(tx):
        raise error

    with pytest.raises(Refused) as caught:
        await database.write(body)
    assert caught.value is error


async def test_a_taken_key_and_a_missing_reference_are_told_apart(database):
    await run(database, INSERT, account("AC1"))
    with pytest.raises(UniqueViolated):
        await run(database, INSERT, account("AC1", 2))
    with pytest.raises(UniqueViolated):
        await run(database, INSERT, account("AC2", 1))
    key = """INSERT INTO keys (key_sid, account_sid, friendly_name, secret_hash, date_created)
        VALUES ('SK1', :sid, '', :hash, 1)"""
    with pytest.raises(ReferenceViolated):
        await run(database, key, {"sid": "AC9", "hash": b""})
    await run(database, key, {"sid": "AC1", "hash": b""})
    with pytest.raises(ReferenceViolated):
        await run(database, "DELETE FROM accounts WHERE account_sid = :sid", {"sid": "AC1"})


async def test_a_check_that_fails_is_a_violated_constraint(database):
    await run(database, INSERT, account("AC1"))
    sql = """INSERT INTO devices (device_sid, account_sid, access, date_created, date_updated)
        VALUES ('UV1', 'AC1', 'nonsense', 1, 1)"""
    with pytest.raises(ConstraintViolated):
        await run(database, sql, {})


async def test_a_statement_that_is_wrong_is_a_fault_of_the_port(database):
    with pytest.raises(DatabaseFault):
        await database.one(Sid, "SELECT nonsense FROM nowhere", {})
    with pytest.raises(DatabaseFault):
        await run(database, "DELETE FROM nowhere", {})
    assert await bump(database) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("ordinal", 2**70), ("sid", "\ud800"), ("ordinal", "many"), ("hash", object())]
)
async def test_a_value_that_no_column_can_hold_is_a_fault_and_not_a_reason_to_try_again(database, name, value):
    with pytest.raises(DatabaseFault) as caught:
        await run(database, INSERT, {**account("AC1"), name: value})
    assert not isinstance(caught.value, DatabaseBusy)
    assert await bump(database) == 1


async def test_a_parameter_that_is_missing_is_a_mistake_of_the_program(database):
    with pytest.raises(KeyError, match="sid"):
        await database.one(Number, READ, {})
