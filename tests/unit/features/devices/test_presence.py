"""What devices did in the last second, written in one batch; on both engines."""

import msgspec
import pytest

from fleetvisor.db.database import Database
from fleetvisor.features.apps.model import App
from fleetvisor.features.devices import presence as module
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.updates import store as updates_store
from fleetvisor.features.updates import targets
from fleetvisor.features.updates.model import Wanted
from fleetvisor.ground.clock import Millis
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.memory import Room

pytestmark = pytest.mark.slow

ACCOUNT = "AC" + "0" * 32
DEVICE = "UV" + "1" * 32
REMOVED = "UV" + "2" * 32
APP = "KA" + "3" * 32


class Seen(msgspec.Struct):
    device_sid: str
    date_seen: int


async def seen(db: Database) -> dict[str, int]:
    rows = await db.all(Seen, "SELECT device_sid, date_seen FROM presence", {})
    return {row.device_sid: row.date_seen for row in rows}


@pytest.fixture
async def db(database):
    """A database with one account, one device and one open update."""

    async def body(tx):
        await tx.run(
            """INSERT INTO accounts (account_sid, ordinal, auth_token_hash, auth_token_sealed, date_created)
            VALUES (:sid, 1, :hash, :hash, 1)""",
            {"sid": ACCOUNT, "hash": b"x"},
        )
        await tx.run(
            """INSERT INTO devices (device_sid, account_sid, date_created, date_updated)
            VALUES (:sid, :account, 1, 1)""",
            {"sid": DEVICE, "account": ACCOUNT},
        )
        await updates_store.insert_assignment(tx, ACCOUNT, DEVICE)
        await tx.run(
            """INSERT INTO apps (app_sid, account_sid, manifest, manifest_hash, signed, size_bytes, politeness_s,
                connection_grace_s, check_in_s, date_created)
            VALUES (:app, :account, :manifest, :hash, 0, 9, 0, 0, 0, 1)""",
            {"app": APP, "account": ACCOUNT, "manifest": b"m", "hash": "a" * 64},
        )
        app = App(APP, ACCOUNT, None, "a" * 64, False, 9, 0, 0, 0, Millis(1))
        await targets.assign(tx, ACCOUNT, DEVICE, Wanted(app), Millis(1), cancel_timeout_s=600)

    await database.write(body)
    return database


@pytest.fixture
def presence(db):
    return Presence(db=db, limits=Limits(report_timeout_s=60))


async def deadline(db: Database, number: int = 1) -> int | None:
    update = await updates_store.find(db, ACCOUNT, DEVICE, number)
    assert update is not None
    return update.date_deadline


async def test_the_last_sighting_of_a_second_is_the_one_that_is_written(db, presence):
    presence.note(DEVICE, Millis(1_700_000_000_000))
    presence.note(DEVICE, Millis(1_700_000_000_900))
    assert await seen(db) == {}
    assert await presence.flush() == 1
    assert await seen(db) == {DEVICE: 1_700_000_000_900}
    assert await presence.flush() == 0


async def test_an_older_sighting_of_another_node_does_not_go_back(db, presence):
    presence.note(DEVICE, Millis(2000))
    await presence.flush()
    other = Presence(db=db, limits=Limits())
    other.note(DEVICE, Millis(1000))
    await other.flush()
    assert await seen(db) == {DEVICE: 2000}


async def test_a_sighting_of_the_future_gives_way_to_the_next_one(db, presence):
    """The clock was wrong once: without this the device counts as seen until that time has come."""
    presence.note(DEVICE, Millis(4_000_000_000_000))
    await presence.flush()
    presence.note(DEVICE, Millis(1_800_000_000_000))
    await presence.flush()
    assert await seen(db) == {DEVICE: 1_800_000_000_000}


async def test_a_device_removed_meanwhile_leaves_no_row(db, presence):
    presence.note(REMOVED, Millis(1000))
    presence.note_fetch(REMOVED, 1, Millis(1000))
    await presence.flush()
    assert await seen(db) == {}


async def test_the_first_fetch_starts_the_clock_of_the_update_and_no_later_one_moves_it(db, presence):
    presence.note_fetch(DEVICE, 1, Millis(5000))
    presence.note_fetch(DEVICE, 1, Millis(5500))
    await presence.flush()
    assert await deadline(db) == 65_000
    presence.note_fetch(DEVICE, 1, Millis(9000))
    await presence.flush()
    Presence(db=db, limits=Limits()).note_fetch(DEVICE, 1, Millis(9500))
    assert await deadline(db) == 65_000


async def test_a_fetch_that_is_known_costs_no_write(db, presence, monkeypatch):
    presence.note_fetch(DEVICE, 1, Millis(5000))
    await presence.flush()
    writes = []
    monkeypatch.setattr(type(db), "write", lambda *_: writes.append(1))  # counts the writes
    presence.note_fetch(DEVICE, 1, Millis(6000))
    assert await presence.flush() == 0
    assert writes == []


async def test_what_could_not_be_written_is_kept_for_the_next_flush(db, presence, monkeypatch):
    async def fail(*_):
        raise OSError("disk")

    presence.note(DEVICE, Millis(7000))
    presence.note_fetch(DEVICE, 1, Millis(7000))
    with monkeypatch.context() as patch:
        patch.setattr(type(db), "write", fail)  # no engine fails on demand
        with pytest.raises(OSError, match="disk"):
            await presence.flush()
    await presence.flush()
    assert await seen(db) == {DEVICE: 7000}
    assert await deadline(db) == 67_000


async def test_the_notes_are_bounded_and_a_known_device_is_still_noted(db, monkeypatch):
    monkeypatch.setattr(module, "DEVICES_SEEN", Room(384, 384, ""))  # a bound that takes a million devices to reach
    presence = Presence(db=db, limits=Limits())
    presence.note(DEVICE, Millis(1000))
    presence.note(REMOVED, Millis(1000))
    presence.note(DEVICE, Millis(3000))
    assert await presence.flush() == 1
    assert await seen(db) == {DEVICE: 3000}
