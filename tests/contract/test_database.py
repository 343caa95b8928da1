"""The contract of the database port, held by every adapter: the same statements do the same."""

import asyncio
import enum

import msgspec
import pytest

from fleetvisor.db.database import ConstraintViolated, DatabaseFault, ReferenceViolated, UniqueViolated
from fleetvisor.db.sqlite import MemoryDatabase, open_sqlite

INSERT = """INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created)
    VALUES (:sid, :ordinal, :hash, :sealed, 1)"""
BUMP = """INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 1)
    ON CONFLICT (device_sid) DO UPDATE SET last_number = update_numbers.last_number + 1 RETURNING last_number AS number"""
READ = "SELECT last_number AS number FROM update_numbers WHERE device_sid = :sid"


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
    await bump(database)
    with pytest.raises(TypeError, match="device_sid"):
        await database.one(Sid, "SELECT last_number FROM update_numbers", {})


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


async def test_concurrent_increments_are_all_counted(database):
    await asyncio.gather(*[bump(database) for _ in range(64)])
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(64)


async def test_insert_if_none_is_open_leaves_one(database):
    """At READ COMMITTED eight concurrent bodies would leave eight."""

    async def body(tx):
        if await tx.one(Number, "SELECT count(*) AS number FROM removed_blobs", {}) == Number(0):
            await tx.run("INSERT INTO removed_blobs (blob, date_removed) VALUES (:b, 1)", {"b": str(id(object()))})

    await asyncio.gather(*[database.write(body) for _ in range(8)])
    assert await database.one(Number, "SELECT count(*) AS number FROM removed_blobs", {}) == Number(1)


async def test_a_write_survives_the_cancellation_of_its_caller(database):
    task = asyncio.create_task(bump(database))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    for _ in range(100):
        if await database.one(Number, READ, {"sid": "UV1"}) == Number(1):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the write was lost")


async def test_many_keys_are_read_and_many_rows_written_in_one_body(database):
    rows = [{"sid": f"UV{number}", "n": number} for number in range(1300)]
    sql = "INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, :n)"
    many = "SELECT device_sid FROM update_numbers WHERE device_sid IN (:keys)"

    async def body(tx):
        written = await tx.write_many(sql, rows), await tx.write_many(sql, [])
        read = await tx.read_many(Sid, many, [row["sid"] for row in rows[:1200]] + ["UVmissing"])
        return written, len(read), await tx.read_many(Sid, many, [])

    assert await database.write(body) == ((1300, 0), 1200, [])


async def test_at_most_one_update_of_a_device_is_open(database):
    """The partial unique index, and the foreign keys of a device, are there on every engine."""
    await run(database, INSERT, account("AC1"))
    device = """INSERT INTO devices (device_sid, account_sid, date_created, date_updated)
        VALUES ('UV1', 'AC1', 1, 1)"""
    await run(database, device, {})
    update = """INSERT INTO updates (device_sid, number, account_sid, app_sid, app_hash, state, date_created,
        date_updated) VALUES ('UV1', :n, 'AC1', 'KA1', '', :state, 1, 1)"""
    await run(database, update, {"n": 1, "state": "failed"})
    await run(database, update, {"n": 2, "state": "testing"})
    with pytest.raises(UniqueViolated):
        await run(database, update, {"n": 3, "state": "pending"})
    await run(database, "DELETE FROM devices WHERE device_sid = 'UV1'", {})
    assert await database.one(Number, "SELECT count(*) AS number FROM updates", {}) == Number(0)


async def test_the_change_log_is_read_below_the_horizon_in_the_writers_order(database):
    class Event(msgspec.Struct, frozen=True):
        event_id: int

    sql = """INSERT INTO events (writer, account_sid, type, subject_sid, data, date_created)
        VALUES (current_writer(), 'AC1', 't', 's', '{}', 1)"""
    await run(database, sql, {})
    await run(database, sql, {})
    tail = "SELECT event_id FROM events WHERE writer < writer_horizon() ORDER BY writer, event_id"
    found = [row.event_id for row in await database.all(Event, tail, {})]
    assert len(found) == 2
    assert found == sorted(found)


async def test_a_closed_database_refuses_writes(database):
    if isinstance(database, MemoryDatabase):
        pytest.skip("a database in memory is gone when it is closed")
    await database.check()
    await database.close()
    with pytest.raises(DatabaseFault):
        await bump(database)


async def test_a_newer_schema_is_refused(tmp_path):
    db = await open_sqlite(tmp_path / "x.db")
    await run(db, "INSERT INTO schema_version VALUES (9999)", {})
    await db.close()
    with pytest.raises(DatabaseFault, match="9999"):
        await open_sqlite(tmp_path / "x.db")


async def test_a_newer_schema_is_refused_by_postgresql_too(postgres_cluster):
    from fleetvisor.db.postgres import open_postgres

    url = postgres_cluster.url()
    db = await open_postgres(url)
    await run(db, "INSERT INTO schema_version VALUES (9999)", {})
    await db.close()
    with pytest.raises(DatabaseFault, match="9999"):
        await open_postgres(url)


async def test_nodes_that_start_at_once_migrate_once(postgres_cluster):
    from fleetvisor.db.postgres import open_postgres

    url = postgres_cluster.url()
    nodes = await asyncio.gather(*[open_postgres(url, pool_size=2) for _ in range(4)])
    for node in nodes:
        await node.close()


async def test_a_reader_of_the_change_log_never_passes_an_unfinished_transaction(postgres_cluster):
    """An id is given before its row is committed: a later id may be visible first."""
    import asyncpg

    from fleetvisor.db.postgres import open_postgres
    from fleetvisor.features.events import store as events

    url = postgres_cluster.url()
    db = await open_postgres(url)
    insert = """INSERT INTO events (writer, account_sid, type, subject_sid, data, date_created)
        VALUES (current_writer(), 'AC1', $1, 's', '{}', 1)"""
    slow = await asyncpg.connect(url)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute(insert, "first")
    await run(db, insert.replace("$1", ":t"), {"t": "second"})
    place = (-1, 0)
    assert await events.tail(db, place) == []
    await transaction.commit()
    assert {event.type for event in await events.tail(db, place)} == {"first", "second"}
    await slow.close()
    await db.close()
