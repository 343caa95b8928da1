"""The contract of the database port, held by every adapter: writes at once, many rows together, and a close meanwhile."""

import asyncio
import gc

import pytest
from tests.contract.test_database import BUMP, INSERT, MANY, READ, Number, Sid, account, bump, run

from fleetvisor.db.database import DatabaseBusy, ReferenceViolated, UniqueViolated
from fleetvisor.features.events.tail import Place, Reader


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
