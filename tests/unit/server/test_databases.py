"""A damaged SQLite file is noticed: at start, by the doctor, and by a request that meets the damage."""

import asyncio
import threading

import apsw
import msgspec
import pytest

from fleetvisor.cli.checks import Verdict
from fleetvisor.cli.doctor_database import judge_database
from fleetvisor.db.database import DatabaseUnfit
from fleetvisor.db.sqlite import open_sqlite
from fleetvisor.server.databases import open_local
from fleetvisor.server.files import StartFault
from fleetvisor.web.problems import problem_of

PAGE = 4096
FREE_PAGES = 36  # where the file's header counts them
READ = "SELECT count(*) AS number FROM keepsakes WHERE name || value <> ''"


class Number(msgspec.Struct, frozen=True):
    number: int


@pytest.fixture
async def path(tmp_path):
    """A database with some pages of rows, that nobody has open."""
    path = tmp_path / "fleetvisor.db"
    db = await open_sqlite(path)

    async def fill(tx):
        rows = [{"name": f"n{number:05}", "value": b"v" * 200} for number in range(2000)]
        await tx.write_many("INSERT INTO keepsakes (name, value) VALUES (:name, :value)", rows)

    await db.write(fill)
    await db.close()
    return path


def last_leaf(path):
    """Give the place of a page that holds rows."""
    connection = apsw.Connection(str(path))
    sql = "SELECT max(pageno) FROM dbstat WHERE name = 'keepsakes' AND pagetype = 'leaf'"
    ((page,),) = connection.execute(sql).fetchall()
    connection.close()
    return (page - 1) * PAGE


def damage(path, how):
    place = FREE_PAGES if how == "free pages" else last_leaf(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write({"zeroed page": bytes(PAGE), "flipped bytes": b"\xff" * 64, "free pages": b"\0\0\0\7"}[how])


both = pytest.mark.parametrize("how", ["zeroed page", "flipped bytes"])
# A wrong count of free pages is told as a finding; SQLite raises no error for it.
each = pytest.mark.parametrize("how", ["zeroed page", "flipped bytes", "free pages"])


async def test_a_whole_file_is_opened_and_found_whole(path):
    db = await open_local(path)
    assert await db.inspect() == ()
    assert db.degraded is None
    await db.close()
    assert judge_database(path).verdict is Verdict.OK


@each
async def test_a_start_with_a_damaged_file_is_refused_with_what_to_do(path, how):
    damage(path, how)
    with pytest.raises(StartFault) as told:
        await open_local(path)
    assert str(path) in str(told.value)
    assert "is damaged" in str(told.value)
    assert "back-up.md" in str(told.value)


@each
async def test_a_large_file_is_looked_through_while_it_serves(path, how):
    damage(path, how)
    db = await open_local(path, at_once_bytes=0)
    async with asyncio.timeout(10):
        while db.degraded is None:
            await asyncio.sleep(0.01)
    assert db.degraded == "damaged"
    await db.close()


@both
async def test_a_read_that_meets_damage_is_503(path, how):
    damage(path, how)
    db = await open_sqlite(path)
    for read in (db.one, db.all, db.scan):
        with pytest.raises(DatabaseUnfit) as told:
            await read(Number, READ, {})
        assert told.value.fault == "damaged"
    assert db.degraded == "damaged"
    problem = problem_of(told.value)
    assert (problem.status, problem.code, problem.detail) == (503, 20503, "The server's database is damaged.")
    assert problem.retry_after_s
    await db.close()


@each
async def test_the_doctor_says_what_is_damaged_and_what_to_do_also_beside_a_server(path, how):
    damage(path, how)
    db = await open_sqlite(path)
    check = judge_database(path)
    await db.close()
    assert check.verdict is Verdict.FAIL
    assert "damaged" in check.finding
    assert "back-up.md" in check.advice


async def test_the_doctor_has_an_end_and_a_close_does_not_wait_for_a_look(path, monkeypatch):
    # looks at the time so often that a small file is enough
    monkeypatch.setattr("fleetvisor.db.sqlite_inspect._STEPS", 10)
    assert "a server looks" in judge_database(path, time_s=-1).finding
    db = await open_local(path)
    looking = asyncio.ensure_future(db.inspect())
    async with asyncio.timeout(5):
        await db.close()
    await asyncio.gather(looking, return_exceptions=True)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sqlite-inspect")]


def test_what_is_no_database_is_damaged(tmp_path):
    (tmp_path / "x.db").write_bytes(b"no database" * 1000)
    assert judge_database(tmp_path / "x.db").verdict is Verdict.FAIL
