"""The change log: appended with the change, read in order, never passed."""

import msgspec
import pytest
from tests.unit.features.stage import START, stage

from fleetvisor.features.events.store import append
from fleetvisor.features.events.tail import Reader


async def note(at, subject, *, fail=False):
    async def body(tx):
        await append(tx, account_sid=at.account, type="thing.made", subject_sid=subject, data={"n": 1}, now=START)
        if fail:
            raise ValueError("the thing was not made")

    await at.db.write(body)


async def test_an_event_of_a_change_that_was_rolled_back_never_was():
    at = await stage()
    with pytest.raises(ValueError, match="not made"):
        await note(at, "one", fail=True)
    assert not await at.events("thing.")


async def read(reader):
    return [event.subject_sid async for page in reader.pages() for event in page]


async def test_a_reader_gives_each_event_once_in_order_in_pages_of_any_size():
    at = await stage()
    reader = Reader(at.db, limit=3)
    await reader.start()
    for number in range(7):
        await note(at, f"T{number}")
    assert await read(reader) == [f"T{number}" for number in range(7)]
    assert await read(reader) == []


async def test_a_reading_that_broke_off_is_made_again():
    at = await stage()
    reader = Reader(at.db, limit=1)
    await reader.start()
    await note(at, "T0")
    await note(at, "T1")
    async for page in reader.pages():
        assert page[0].subject_sid == "T0"
        break
    assert await read(reader) == ["T0", "T1"]


async def test_a_reader_that_starts_now_gives_only_what_comes():
    at = await stage()
    await note(at, "before")
    reader = Reader(at.db)
    assert await read(reader) == []
    await note(at, "after")
    assert await read(reader) == ["after"]


async def test_an_event_says_what_happened_to_what_and_when():
    at = await stage()
    await note(at, "T1")
    (event,) = await at.events("thing.")
    assert (event.account_sid, event.device_sid, event.date_created) == (at.account, None, START)
    assert msgspec.json.decode(event.data) == {"n": 1}


async def test_an_event_of_a_device_names_the_device():
    """Who serves devices rings the bell of this one and of no other."""
    at = await stage()
    device = await at.add_device(at.account)

    async def body(tx):
        await append(tx, account_sid=at.account, type="thing.made", subject_sid="T1", device_sid=device, now=START)

    await at.db.write(body)
    (event,) = await at.events("thing.")
    assert (event.device_sid, event.data) == (device, "{}")


async def test_a_reader_of_an_empty_log_starts_before_everything():
    at = await stage()
    await at.run("DELETE FROM events")
    reader = Reader(at.db)
    await reader.start()
    await note(at, "first")
    assert await read(reader) == ["first"]
