"""The contract of the database port, held by every adapter: the same statements do the same."""

import asyncio
import enum
import gc

import msgspec
import pytest

from fleetvisor.db.database import ConstraintViolated, DatabaseBusy, DatabaseFault, ReferenceViolated, UniqueViolated
from fleetvisor.features.events.tail import Place, Reader

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


async def test_bodies_that_look_before_they_insert_agree_on_one_row(database):
    """All want the same key: one makes it, the others find it, and none hears of a taken key."""
    make = "INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, :n)"

    async def claim(sid, n):
        async def body(tx):
            found = await tx.one(Number, READ, {"sid": sid})
            if found is None:
                await tx.run(make, {"sid": sid, "n": n})
                return n
            return found.number

        return await database.write(body)

    for turn in range(5):
        assert len(set(await asyncio.gather(*[claim(f"UV{turn}", n) for n in range(8)]))) == 1


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


async def test_a_failing_write_whose_caller_is_gone_fails_in_silence(database, caplog):
    async def body(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        raise LookupError("nobody hears this")

    task = asyncio.create_task(database.write(body))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    del task
    assert await bump(database, "UV2") == 1
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records
    assert await database.one(Number, READ, {"sid": "UV1"}) is None


async def test_many_rows_are_written_and_many_keys_read_in_one_body(database):
    rows = [{"sid": f"UV{number}", "n": number} for number in range(1300)]
    sql = "INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, :n)"

    async def body(tx):
        written = await tx.write_many(sql, rows), await tx.write_many(sql, [])
        read = await tx.read_many(Sid, MANY, [row["sid"] for row in rows[:1200]] + ["UVmissing"])
        return written, len(read), await tx.read_many(Sid, MANY, [])

    assert await database.write(body) == ((1300, 0), 1200, [])


async def test_keys_may_be_any_text_and_come_twice(database):
    odd = ["", "it's", 'a "b"', "[1, 2]", "ü☃𝄞", "back\\slash", "{}", ":keys", "$1"]
    for sid in odd:
        await bump(database, sid)

    async def body(tx):
        return await tx.read_many(Sid, MANY, [*odd, *odd, "missing"])

    assert sorted(row.device_sid for row in await database.write(body)) == sorted(odd)


async def test_rows_written_together_do_what_they_would_do_one_after_the_other(database):
    """Also when two of them meet in one row, and each counts."""
    raise_to = """INSERT INTO presence (device_sid, date_seen) VALUES (:sid, :seen)
        ON CONFLICT (device_sid) DO UPDATE SET date_seen = excluded.date_seen WHERE presence.date_seen < excluded.date_seen"""
    keep = "INSERT INTO presence (device_sid, date_seen) VALUES (:sid, :seen) ON CONFLICT DO NOTHING"
    change = "UPDATE presence SET date_seen = :seen WHERE device_sid = :sid AND date_seen <> :seen"

    def rows(*pairs):
        return [{"sid": sid, "seen": seen} for sid, seen in pairs]

    async def body(tx):
        return [
            await tx.write_many(raise_to, rows(("UV1", 5), ("UV2", 5), ("UV1", 7), ("UV1", 6))),
            await tx.write_many(keep, rows(("UV1", 1), ("UV3", 1), ("UV3", 2))),
            await tx.write_many(change, rows(("UV1", 7), ("UV2", 9), ("UV9", 9))),
            await tx.write_many("DELETE FROM presence WHERE device_sid = :sid", [{"sid": "UV3"}, {"sid": "UV9"}]),
        ]

    assert await database.write(body) == [3, 1, 1, 1]
    found = await database.all(Number, "SELECT date_seen AS number FROM presence ORDER BY device_sid", {})
    assert found == [Number(7), Number(9)]


async def test_one_row_refused_refuses_all_that_were_written_with_it(database):
    sql = "INSERT INTO presence (device_sid, date_seen) VALUES (:sid, 1)"

    async def body(tx):
        await tx.write_many(sql, [{"sid": "UV1"}, {"sid": "UV2"}, {"sid": "UV1"}])

    with pytest.raises(UniqueViolated):
        await database.write(body)
    assert await database.one(Number, "SELECT count(*) AS number FROM presence", {}) == Number(0)


async def test_an_app_that_a_device_should_run_cannot_be_deleted(database):
    """ON DELETE RESTRICT is told as a reference on every engine, and NULL references nothing."""
    await run(database, INSERT, account("AC1"))
    device = "INSERT INTO devices (device_sid, account_sid, date_created, date_updated) VALUES ('UV1', 'AC1', 1, 1)"
    app = """INSERT INTO apps (app_sid, account_sid, manifest, manifest_hash, signed, size_bytes, politeness_s,
        connection_grace_s, check_in_s, date_created) VALUES ('KA1', 'AC1', :manifest, '', 0, 0, 0, 0, 0, 1)"""
    target = "INSERT INTO assignments (device_sid, account_sid, target_sid) VALUES ('UV1', 'AC1', 'KA1')"
    await run(database, device, {})
    await run(database, app, {"manifest": b""})
    await run(database, target, {})
    with pytest.raises(ReferenceViolated):
        await run(database, "DELETE FROM apps WHERE app_sid = 'KA1'", {})
    await run(database, "UPDATE assignments SET target_sid = NULL", {})
    assert await run(database, "DELETE FROM apps WHERE app_sid = 'KA1'", {}) == 1


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


async def test_the_change_log_is_read_to_the_end_of_a_snapshot_in_the_writers_order(database):
    sql = """INSERT INTO events (writer, account_sid, type, subject_sid, data, date_created)
        VALUES (current_writer(), 'AC1', 't', 's', '{}', 1)"""
    await run(database, sql, {})
    await run(database, sql, {})
    reader = Reader(database, limit=1)
    reader.place = Place(-1, 0, ())
    found = [event.event_id async for page in reader.pages() for event in page]
    assert len(found) == 2
    assert found == sorted(found)


async def test_a_closed_database_refuses_reads_and_writes_as_busy(database):
    """A request that comes while the server stops is told to come again."""
    await database.check()
    await database.close()
    await database.close()
    with pytest.raises(DatabaseBusy):
        await bump(database)
    for read in (database.one, database.all, database.scan):
        with pytest.raises(DatabaseBusy):
            await read(Number, READ, {"sid": "UV1"})
    with pytest.raises(DatabaseBusy):
        await database.check()


async def test_closing_finishes_the_writes_under_way(database):
    writes = [asyncio.ensure_future(bump(database)) for _ in range(30)]
    await asyncio.sleep(0)
    await database.close()
    assert sorted(await asyncio.gather(*writes)) == list(range(1, 31))


async def test_reads_beside_a_close_end_as_busy_at_worst(database):
    """Reads go on while the last write is awaited; none of them meets a half-closed file."""
    await bump(database)
    closed = asyncio.Event()

    async def reader():
        while not closed.is_set():
            assert await database.one(Number, READ, {"sid": "UV1"}) is not None
            await asyncio.sleep(0)

    readers = [asyncio.ensure_future(reader()) for _ in range(4)]
    await asyncio.sleep(0.01)
    await database.close()
    closed.set()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert all(result is None or isinstance(result, DatabaseBusy) for result in results), results


async def test_a_close_whose_caller_is_cancelled_is_finished_all_the_same(database):
    await bump(database)
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await database.close()
    with pytest.raises(DatabaseBusy):
        await database.check()


@pytest.mark.parametrize("error", [OSError("no such port"), TimeoutError("too late"), KeyError("x"), ValueError("y")])
async def test_what_a_body_raises_comes_out_as_it_is(database, error):
    async def body(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        raise error

    with pytest.raises(type(error)) as caught:
        await database.write(body)
    assert caught.value is error
    assert await bump(database) == 1


async def test_a_body_that_raises_stop_iteration_hurts_no_neighbour(database):
    """A future takes no StopIteration: an answer with one would strand its whole commit."""

    def body(_tx):
        return next(iter(()))

    results = await asyncio.gather(bump(database), database.write(body), bump(database, "UV2"), return_exceptions=True)
    assert (results[0], results[2]) == (1, 1)
    assert isinstance(results[1], RuntimeError)
