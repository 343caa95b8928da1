"""The change log: appended with the change, read in order, never passed."""

import msgspec
import pytest
from tests.unit.features.stage import START, stage

from fleetvisor.features.events.store import append, tail, tail_start


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


async def test_the_tail_gives_each_event_once_in_order_in_pieces_of_any_size():
    at = await stage()
    place = await tail_start(at.db)
    for number in range(7):
        await note(at, f"T{number}")
    seen = []
    while found := await tail(at.db, place, limit=3):
        seen += [event.subject_sid for event in found]
        place = found[-1].place
    assert seen == [f"T{number}" for number in range(7)]
    assert place == await tail_start(at.db)


async def test_a_tail_that_starts_now_gives_only_what_comes():
    at = await stage()
    await note(at, "before")
    place = await tail_start(at.db)
    assert await tail(at.db, place) == []
    await note(at, "after")
    assert [event.subject_sid for event in await tail(at.db, place)] == ["after"]


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


async def test_the_tail_of_an_empty_log_starts_before_everything():
    at = await stage()
    await at.run("DELETE FROM events")
    place = await tail_start(at.db)
    await note(at, "first")
    assert [event.subject_sid for event in await tail(at.db, place)] == ["first"]
