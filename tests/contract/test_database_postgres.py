"""PostgreSQL alone: bodies that are run again, connections that are lost, and nodes that start together."""

import asyncio
import random
import traceback

import asyncpg
import msgspec
import pytest
import stamina

from fleetvisor.db.database import ConstraintViolated, DatabaseBusy, DatabaseFault, DatabaseUnfit, UniqueViolated
from fleetvisor.db.migrate import migrations
from fleetvisor.db.postgres import open_postgres
from fleetvisor.db.postgres_statements import fault
from fleetvisor.features.events.tail import Reader

BUMP = """INSERT INTO update_numbers (device_sid, last_number) VALUES (:sid, 1)
    ON CONFLICT (device_sid) DO UPDATE SET last_number = update_numbers.last_number + 1 RETURNING last_number AS number"""
READ = "SELECT last_number AS number FROM update_numbers WHERE device_sid = :sid"


class Number(msgspec.Struct, frozen=True):
    number: int


async def bump(db, sid="UV1"):
    async def body(tx):
        return (await tx.one(Number, BUMP, {"sid": sid})).number

    return await db.write(body)


async def run(db, sql, params):
    async def body(tx):
        return await tx.run(sql, params)

    return await db.write(body)


@pytest.fixture
async def url(postgres_cluster):
    """The URL of an empty database."""
    return await asyncio.to_thread(postgres_cluster.url)


@pytest.fixture
async def database(url):
    db = await open_postgres(url, pool_size=4)
    yield db
    await db.close()


@pytest.fixture
async def other(url):
    """A connection beside the adapter's, to do to it what may happen."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def disconnect(other):
    """End every other connection to the database, as a server that is restarted does."""
    await other.execute("""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()""")


async def test_a_body_that_met_another_is_run_again_and_leaves_nothing_of_the_first_time(database):
    await bump(database)
    turns = []

    async def body(tx):
        before = (await tx.one(Number, READ, {"sid": "UV1"})).number
        turns.append(before)
        if len(turns) == 1:
            await bump(database)
        await tx.run("INSERT INTO removed_blobs (blob, date_removed) VALUES (:blob, 1)", {"blob": f"seen {before}"})
        await tx.run("UPDATE update_numbers SET last_number = :n WHERE device_sid = 'UV1'", {"n": before + 10})

    before = database.tally
    await database.write(body)
    assert turns == [1, 2]
    assert (database.tally.commits - before.commits, database.tally.repeats - before.repeats) == (2, 1)
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(12)
    assert await database.one(Number, "SELECT count(*) AS number FROM removed_blobs", {}) == Number(1)


async def test_a_body_that_never_gets_through_ends_as_busy(database):
    turns = []

    async def body(_tx):
        turns.append(1)
        raise asyncpg.SerializationError("could not serialize access")

    with stamina.set_testing(True, attempts=3), pytest.raises(DatabaseBusy):
        await database.write(body)
    assert len(turns) == 3


async def test_a_key_that_is_truly_taken_is_tried_twice_and_no_more(database):
    await bump(database)
    turns = []

    async def body(tx):
        turns.append(1)
        await tx.run("INSERT INTO update_numbers (device_sid, last_number) VALUES ('UV1', 1)", {})

    with pytest.raises(UniqueViolated):
        await database.write(body)
    assert len(turns) == 2


async def test_a_body_that_lost_a_race_for_a_key_finds_the_winner(database):
    """PostgreSQL says that the key is taken where SQLite's turn would have shown the row."""
    turns = []

    async def body(tx):
        found = await tx.one(Number, READ, {"sid": "UV1"})
        turns.append(found)
        if len(turns) == 1:
            await run(database, "INSERT INTO update_numbers (device_sid, last_number) VALUES ('UV1', 7)", {})
        if found is None:
            await tx.run("INSERT INTO update_numbers (device_sid, last_number) VALUES ('UV1', 1)", {})
        return found

    assert await database.write(body) == Number(7)


async def test_lost_connections_are_told_as_busy_and_made_anew(database, other):
    await bump(database)

    async def body(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await disconnect(other)
        await tx.one(Number, BUMP, {"sid": "UV1"})

    with pytest.raises(DatabaseBusy):
        await database.write(body)
    assert await bump(database) == 2
    await disconnect(other)
    await asyncio.sleep(0.05)
    assert await database.one(Number, READ, {"sid": "UV1"}) == Number(2)
    await database.check()


async def test_what_goes_wrong_on_a_connection_does_not_reach_its_next_user(url):
    """A statement prepared and not run leaves the server in a transaction, unless the connection is reset."""
    db = await open_postgres(url, pool_size=1)

    class Other(msgspec.Struct):
        other: int

    for _ in range(2):
        with pytest.raises(TypeError):
            await db.one(Other, READ, {"sid": "UV1"})
        await bump(db)
        with pytest.raises(DatabaseFault):
            await db.one(Number, READ + " AND last_number < :n", {"sid": "UV1", "n": 2**70})
        await bump(db)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await db.one(Number, "SELECT count(*) AS number FROM pg_sleep(5)", {})
        await bump(db)
    assert await db.one(Number, READ, {"sid": "UV1"}) == Number(6)
    await db.close()


async def test_a_server_that_is_not_there_is_busy():
    with pytest.raises(DatabaseBusy):
        await open_postgres("postgresql://postgres@127.0.0.1:1/nothing")


async def test_a_url_that_names_no_database_of_the_server_is_a_fault(url):
    for wrong in (url + "_missing", "mysql://127.0.0.1/x", "postgresql://postgres@127.0.0.1:port/x"):
        with pytest.raises(DatabaseFault) as caught:
            await open_postgres(wrong)
        assert not isinstance(caught.value, DatabaseBusy)


async def test_a_database_of_another_encoding_is_refused(postgres_cluster):
    made = await asyncio.to_thread(
        postgres_cluster.url, "-T", "template0", "-E", "LATIN1", "--locale-provider=libc", "--locale=C"
    )
    with pytest.raises(DatabaseFault, match="LATIN1"):
        await open_postgres(made)


async def test_a_refused_row_is_in_no_message_and_no_traceback(database):
    """Errors are logged with their causes, and PostgreSQL's detail repeats the whole row."""
    await run(
        database,
        """INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created)
        VALUES ('AC1', 1, :b, :b, 1)""",
        {"b": b""},
    )
    sql = """INSERT INTO configs (owner_sid, store, key, account_sid, value, date_updated)
        VALUES ('UV1', 'neither', 'wifi', 'AC1', :value, 1)"""
    value = " ".join(["correct", "horse"])  # in pieces, because a traceback shows the lines of this file
    with pytest.raises(ConstraintViolated) as caught:
        await run(database, sql, {"value": value})
    assert "check constraint" in str(caught.value)
    assert value not in "".join(traceback.format_exception(caught.value))


INSERT_EVENT = """INSERT INTO events (writer, account_sid, type, subject_sid, data, date_created)
    VALUES (current_writer(), 'AC1', $1, 's', '{}', 1)"""


async def happen(db, kind):
    await run(db, INSERT_EVENT.replace("$1", ":t"), {"t": kind})


async def types(reader):
    return [event.type async for page in reader.pages() for event in page]


async def test_a_reader_of_the_change_log_misses_no_event_whose_transaction_ended_late(database, other):
    """An id is given before its row is committed: a later id may be visible first."""
    reader = Reader(database)
    assert await types(reader) == []
    transaction = other.transaction()
    await transaction.start()
    await other.execute(INSERT_EVENT, "first")
    await happen(database, "second")
    assert await types(reader) == ["second"]
    await happen(database, "third")
    assert await types(reader) == ["third"]
    await transaction.commit()
    assert await types(reader) == ["first"]
    assert await types(reader) == []


async def test_a_transaction_that_stays_open_in_another_database_delays_no_event(database, postgres_cluster):
    elsewhere = await asyncpg.connect(await asyncio.to_thread(postgres_cluster.url))
    reader = Reader(database)
    assert await types(reader) == []
    transaction = elsewhere.transaction()
    await transaction.start()
    await elsewhere.fetchval("SELECT pg_current_xact_id()::text")
    for number in range(3):
        await happen(database, f"t{number}")
        assert await types(reader) == [f"t{number}"]
    await transaction.rollback()
    await elsewhere.close()
    assert await types(reader) == []


async def test_a_reader_misses_nothing_whatever_the_order_of_commits(database, url):
    """Forty writers hold their transactions open for a while; the reader reads all the time, in small pages."""
    reader, missing, chance = Reader(database, limit=3), {f"t{n}" for n in range(40)}, random.Random(7)
    assert await types(reader) == []
    writers = [await asyncpg.connect(url) for _ in range(8)]

    async def write(connection, numbers):
        for number in numbers:
            async with connection.transaction():
                await connection.execute(INSERT_EVENT, f"t{number}")
                await asyncio.sleep(chance.random() * 0.05)

    under_way = [asyncio.ensure_future(write(one, range(place, 40, 8))) for place, one in enumerate(writers)]
    while not all(task.done() for task in under_way):
        missing -= set(await types(reader))
    missing -= set(await types(reader))
    assert missing == set()
    for connection in writers:
        await connection.close()


async def test_backends_that_are_terminated_at_any_moment_are_told_as_busy(database, other):
    """asyncpg has several families of errors for it, its own internal one among them: none may come out as a fault."""
    told, stop = [], False

    async def use(number):
        while not stop:
            try:
                if number % 2:
                    await bump(database, f"UV{number}")
                else:
                    await database.scan(Number, READ, {"sid": f"UV{number}"})
            except Exception as error:
                told.append(error)
            await asyncio.sleep(0)

    users = [asyncio.ensure_future(use(number)) for number in range(8)]
    for _ in range(25):
        await disconnect(other)
        await asyncio.sleep(0.02)
    stop = True
    await asyncio.gather(*users)
    assert {type(error) for error in told} <= {DatabaseBusy}
    assert await bump(database, "UV1") > 0


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("got result for unknown protocol state 3"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_a_lost_connection_is_busy(error):
    assert type(fault(error)) is DatabaseBusy


async def test_nodes_that_start_at_once_migrate_once(url, other):
    """Also where the operator made SERIALIZABLE the default, under which the wait for the lock shows an old version."""
    name = await other.fetchval("SELECT current_database()")
    await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    nodes = await asyncio.gather(*[open_postgres(url, pool_size=2) for _ in range(4)])
    found = await other.fetch("SELECT version FROM schema_version ORDER BY version")
    assert [row["version"] for row in found] == [migration.version for migration in migrations()]
    assert sorted(await asyncio.gather(*[bump(node) for node in nodes])) == [1, 2, 3, 4]
    for node in nodes:
        await node.close()


async def test_a_newer_schema_is_refused(url):
    db = await open_postgres(url)
    await run(db, "INSERT INTO schema_version VALUES (9999)", {})
    await db.close()
    with pytest.raises(DatabaseFault, match="9999"):
        await open_postgres(url)


async def test_waiting_for_a_connection_has_an_end(url):
    db = await open_postgres(url, pool_size=1, acquire_s=0.1)
    go = asyncio.Event()

    async def holding(tx):
        await tx.one(Number, BUMP, {"sid": "UV1"})
        await go.wait()

    held = asyncio.ensure_future(db.write(holding))
    await asyncio.sleep(0.05)
    for waiting in (db.one(Number, READ, {"sid": "UV1"}), db.check(), bump(db)):
        with pytest.raises(DatabaseBusy):
            await asyncio.wait_for(waiting, 5)
    go.set()
    await held
    assert await bump(db) == 2
    await db.close()


@pytest.mark.parametrize(
    ("state", "fault"), [("53100", "disk_full"), ("25006", "read_only"), ("58030", "io_error"), ("XX001", "damaged")]
)
async def test_a_disk_that_is_full_or_read_only_says_so_until_a_write_succeeds(database, state, fault):
    with pytest.raises(DatabaseUnfit) as told:
        await run(database, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$", {})
    assert told.value.fault == fault
    assert database.degraded == fault

    async def nothing(_tx):
        return None

    await database.write(nothing)
    assert database.degraded == fault
    await run(database, "INSERT INTO keepsakes (name, value) VALUES ('x', ''::bytea)", {})
    assert database.degraded == (fault if fault == "damaged" else None)
