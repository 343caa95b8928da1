"""SQLite alone: what is acknowledged was synced, many writes share one sync, and errors of the disk end nothing else."""

import asyncio
import itertools
import os
import shutil
import threading
import time

import apsw
import msgspec
import pytest

from fleetvisor.db.database import DatabaseBusy, DatabaseFault, DatabaseUnfit
from fleetvisor.db.migrate import migrations
from fleetvisor.db.sqlite import memory, open_sqlite
from fleetvisor.db.sqlite_writer import Tidying

BUMP = """INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 1)
    ON CONFLICT (device_sid) DO UPDATE SET last_number = update_numbers.last_number + 1 RETURNING last_number AS number"""
READ = "SELECT COALESCE(max(last_number), 0) AS number FROM update_numbers"
_names = itertools.count(1)


class Number(msgspec.Struct, frozen=True):
    number: int


async def bump(db, sid="UV1"):
    async def body(tx):
        return (await tx.one(Number, BUMP, {"sid": sid})).number

    return await db.write(body)


async def shared(db, bodies):
    """Make ``bodies`` wait together behind one that holds the writer, so that they share a commit; give the results."""
    held, go = threading.Event(), threading.Event()

    async def first(_tx):
        held.set()
        assert go.wait(10)

    ahead = asyncio.ensure_future(db.write(first))
    await asyncio.to_thread(held.wait, 10)
    waiting = [asyncio.ensure_future(db.write(body)) for body in bodies]
    await asyncio.sleep(0)
    go.set()
    await ahead
    return await asyncio.gather(*waiting, return_exceptions=True)


class Disk(apsw.VFS):
    """The real file system, which notes each sync and can be told to fail at them."""

    def __init__(self):
        self.name = f"disk{next(_names)}"
        self.notes = []
        self.broken = False
        super().__init__(self.name, "")

    def xOpen(self, name, flags):
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self._disk = disk
        super().__init__("", name, flags)
        self._kind = "log" if flags[0] & apsw.SQLITE_OPEN_WAL else "file"

    def xSync(self, flags):
        if self._disk.broken:
            raise apsw.IOError("the disk is broken")
        super().xSync(flags)
        self._disk.notes.append(self._kind)


@pytest.fixture
async def disk():
    made = Disk()
    yield made
    made.unregister()


@pytest.fixture
async def database(tmp_path, disk):
    db = await open_sqlite(tmp_path / "x.db", vfs=disk.name)
    await bump(db, "warm")
    yield db
    disk.broken = False
    await db.close()


async def test_what_is_acknowledged_was_synced_before(database, disk):
    for _ in range(5):
        del disk.notes[:]
        await bump(database)
        disk.notes.append("answer")
        assert disk.notes == ["log", "answer"]


async def test_writes_that_wait_together_share_one_commit_and_one_sync(database, disk):
    def body_for(n):
        async def body(tx):
            return (await tx.one(Number, BUMP, {"sid": f"UV{n % 3}"})).number

        return body

    del disk.notes[:]
    commits, writes = database.tally.commits, database.tally.writes
    results = await shared(database, [body_for(n) for n in range(60)])
    assert sorted(results) == sorted([1 + n // 3 for n in range(60)])
    assert database.tally.commits - commits == 2  # the one that held the writer, and all the others
    assert database.tally.writes - writes == 61
    assert disk.notes == ["log"]  # the one that held the writer wrote nothing


async def test_a_body_that_fails_in_a_shared_commit_is_rolled_back_alone(database):
    async def good(tx):
        return (await tx.one(Number, BUMP, {"sid": "UV1"})).number

    async def bad(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await tx.run("DELETE FROM nowhere", {})

    commits = database.tally.commits
    results = await shared(database, [good, bad, good, bad, good])
    assert database.tally.commits - commits == 2
    assert [result for result in results if isinstance(result, int)] == [1, 2, 3]
    assert isinstance(results[1], DatabaseFault)
    assert isinstance(results[3], DatabaseFault)


async def test_a_commit_that_fails_fails_all_its_writes_and_no_other(database, disk):
    """Nobody hears of success, not even who would have heard of a refusal: it was judged by what never came to be."""

    async def good(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})

    async def refused(tx):
        raise LookupError((await tx.one(Number, READ, {})).number)

    async def breaking(tx):
        disk.broken = True
        await tx.one(Number, BUMP, {"sid": "UV1"})

    results = await shared(database, [good, refused, breaking, good])
    assert [type(result) for result in results] == [DatabaseUnfit] * 4
    assert database.degraded == "io_error"
    disk.broken = False
    assert await bump(database) == 1
    assert database.degraded is None


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_no_write_is_acknowledged_into_a_file_that_was_removed_or_replaced(database, tmp_path, suffix, replaced):
    file, aside = tmp_path / f"x.db{suffix}", tmp_path / "aside"
    file.rename(aside)
    if replaced:
        shutil.copy(aside, file)
    with pytest.raises(DatabaseUnfit, match="removed or replaced"):
        await bump(database)
    assert database.degraded == "moved"
    aside.rename(file)
    assert await bump(database) == 1
    assert database.degraded is None


async def test_a_full_database_refuses_and_goes_on(database):
    async def limit(tx):
        pages = (await tx.one(Number, "SELECT page_count AS number FROM pragma_page_count", {})).number
        await tx.run(f"PRAGMA max_page_count = {pages + 20}", {})

    async def big(tx):
        await tx.run("INSERT INTO keepsakes (name, value) VALUES ('big', :value)", {"value": bytes(1_000_000)})

    await database.write(limit)
    with pytest.raises(DatabaseUnfit, match="full"):
        await database.write(big)
    assert database.degraded == "disk_full"
    assert await bump(database) == 1
    assert database.degraded is None
    results = await shared(database, [big, big])
    assert [type(result) for result in results] == [DatabaseUnfit] * 2
    assert await bump(database) == 2


async def test_a_database_that_may_not_be_written_says_so_until_it_may(database):
    await bump(database)
    database._write_connection.pragma("query_only", 1)
    with pytest.raises(DatabaseUnfit, match="read-only"):
        await bump(database)
    assert database.degraded == "read_only"
    database._write_connection.pragma("query_only", 0)
    await database.write(_nothing)
    assert database.degraded == "read_only"  # nothing was written
    await bump(database)
    assert database.degraded is None


async def _nothing(_tx):
    return None


async def test_a_log_that_a_foreign_reader_let_grow_is_cut_back_when_it_left(tmp_path):
    tidying = Tidying(every_s=0.05, log_bytes_max=1_000_000)
    db, log = await open_sqlite(tmp_path / "x.db", tidying=tidying), tmp_path / "x.db-wal"
    foreign = apsw.Connection(str(tmp_path / "x.db"))
    foreign.execute("BEGIN")
    foreign.execute("SELECT count(*) FROM accounts").fetchall()

    async def big(tx):
        sql = (
            "INSERT INTO keepsakes (name, value) VALUES ('big', :value) ON CONFLICT (name) DO UPDATE SET value = :value"
        )
        await tx.run(sql, {"value": os.urandom(500_000)})

    for _ in range(30):
        await db.write(big)
    await asyncio.sleep(0.3)
    assert log.stat().st_size > 10_000_000
    foreign.execute("ROLLBACK")
    async with asyncio.timeout(10):
        while log.stat().st_size > 1_000_000:
            await asyncio.sleep(0.05)
    assert await bump(db) == 1
    foreign.close()
    await db.close()


async def test_a_reader_never_sees_what_is_not_committed(database):
    written, go = threading.Event(), threading.Event()

    async def body(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        written.set()
        assert go.wait(10)

    before = await database.one(Number, READ, {})
    writing = asyncio.ensure_future(database.write(body))
    await asyncio.to_thread(written.wait, 10)
    assert await database.one(Number, READ, {}) == before
    assert await database.all(Number, "SELECT count(*) AS number FROM update_numbers", {}) == [Number(1)]
    assert await database.scan(Number, "SELECT count(*) AS number FROM update_numbers", {}) == [Number(1)]
    go.set()
    await writing
    assert await database.one(Number, "SELECT count(*) AS number FROM update_numbers", {}) == Number(2)


async def test_a_body_that_waits_for_something_else_is_a_mistake_told_plainly(database):
    """It would hold the one writer, and everybody else's write."""

    async def body(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await asyncio.sleep(0)

    in_memory = memory()
    for db in (database, in_memory):
        with pytest.raises(TypeError, match="awaited something else than its transaction"):
            await db.write(body)
        assert await bump(db) == 1
    await in_memory.close()


async def test_databases_in_memory_share_nothing():
    one, two = memory(), memory()
    assert [await bump(one), await bump(one), await bump(two)] == [1, 2, 1]
    await one.close()
    assert await bump(two) == 2
    await two.close()
    fresh = memory()
    assert await bump(fresh) == 1
    await fresh.close()


async def test_closing_does_not_wait_for_a_long_read(tmp_path):
    db = await open_sqlite(tmp_path / "x.db")
    endless = """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT max(i) AS number FROM n"""
    reading = asyncio.ensure_future(db.scan(Number, endless, {}))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await db.close()
    assert time.monotonic() - started < 2
    with pytest.raises(DatabaseBusy):
        await reading


async def test_a_file_that_was_closed_is_one_file_and_holds_everything(tmp_path):
    """So that copying the data directory of a stopped server is a backup."""
    for turn in range(1, 4):
        db = await open_sqlite(tmp_path / "x.db")
        assert await bump(db) == turn
        await db.close()
        assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


async def test_a_migration_is_applied_once(tmp_path):
    for _ in range(2):
        db = await open_sqlite(tmp_path / "x.db")
        found = await db.all(Number, "SELECT version AS number FROM schema_version ORDER BY version", {})
        assert [row.number for row in found] == [migration.version for migration in migrations()]
        await db.close()


async def test_a_newer_schema_is_refused(tmp_path):
    db = await open_sqlite(tmp_path / "x.db")

    async def body(tx):
        await tx.run("INSERT INTO schema_version VALUES (9999)", {})

    await db.write(body)
    await db.close()
    with pytest.raises(DatabaseFault, match="9999"):
        await open_sqlite(tmp_path / "x.db")


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(DatabaseFault, match="not a database"):
        await open_sqlite(tmp_path / "x.db")
    with pytest.raises(DatabaseFault, match="open"):
        await open_sqlite(tmp_path / "missing" / "x.db")


async def test_closing_ends_the_scan_that_runs_and_those_that_wait(tmp_path):
    db = await open_sqlite(tmp_path / "x.db")
    endless = """WITH RECURSIVE n(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n LIMIT 4000000000)
        SELECT count(*) AS number FROM n WHERE number < :max"""
    scans = [asyncio.ensure_future(db.scan(Number, endless, {"max": 2})) for _ in range(20)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await db.close()
    assert {type(found) for found in await asyncio.gather(*scans, return_exceptions=True)} == {DatabaseBusy}
