"""``Kept``: what rang while it was read is answered and not kept; what rings later is forgotten."""

import pytest

from fleetvisor.bus.bus import Bus
from fleetvisor.bus.kept import Bells, Kept
from fleetvisor.ground.memory import Room

ROOM = Room(100 * 1000, 1000, "")


@pytest.fixture
def bus():
    return Bus()


def account_of(sid):
    return sid if sid.startswith("AC") else None


@pytest.fixture
def kept(bus):
    """Texts such as ``UV1 AC1``, under the bells that they name."""
    return Kept(bus, ROOM, lambda value: Bells(*value.split()), wide_of=account_of)


def reading(value, *acts):
    async def fetch():
        for act in acts:
            act()
        return value

    return fetch


async def test_a_value_is_read_once_and_then_answered_from_memory(kept):
    assert kept.find("k") is None
    assert await kept.read("k", reading("UV1 AC1")) == "UV1 AC1"
    assert kept.find("k") == "UV1 AC1"


@pytest.mark.parametrize("bell", ["UV1", "AC1"])
async def test_a_bell_forgets_its_members_and_no_others(bus, kept, bell):
    await kept.read("first", reading("UV1 AC1"))
    await kept.read("second", reading("UV1 AC1"))
    await kept.read("other", reading("UV2 AC2"))
    bus.ring((bell,))
    assert (kept.find("first"), kept.find("second")) == (None, None)
    assert kept.find("other") == "UV2 AC2"


@pytest.mark.parametrize("bell", ["UV1", "AC1"])
async def test_what_rang_while_it_was_read_is_answered_and_not_kept(bus, kept, bell):
    value = await kept.read("k", reading("UV1 AC1", lambda: bus.ring((bell,))))
    assert value == "UV1 AC1"
    assert kept.find("k") is None
    await kept.read("k", reading("UV1 AC1", lambda: bus.ring(("UV2", "AC2"))))
    assert kept.find("k") == "UV1 AC1", "another's bell is nothing to it"


async def test_a_key_that_is_its_own_bell_is_forgotten_and_not_kept_in_a_race(bus):
    kept = Kept(bus, ROOM)
    await kept.read("UV1", reading("old"))
    bus.ring(("UV1",))
    assert kept.find("UV1") is None
    await kept.read("UV1", reading("old", lambda: bus.ring(("UV1",))))
    assert kept.find("UV1") is None
    await kept.read("UV1", reading("new"))
    assert kept.find("UV1") == "new"


async def test_nothing_is_answered_from_memory_while_the_bus_is_not_fresh(bus, kept):
    await kept.read("k", reading("UV1 AC1"))
    bus.fresh = False
    assert kept.find("k") is None
    bus.fresh = True
    assert kept.find("k") == "UV1 AC1"


async def test_where_others_make_changes_unheard_nothing_is_kept(bus):
    kept = Kept(bus, ROOM, alone=True)
    await kept.read("UV1", reading("row"))
    assert kept.find("UV1") == "row"
    bus.alone = False
    assert kept.find("UV1") is None
    await kept.read("UV2", reading("row"))
    bus.alone = True
    assert kept.find("UV2") is None


async def test_a_failed_read_keeps_nothing_and_stops_watching(bus, kept):
    async def fail():
        raise KeyError

    with pytest.raises(KeyError):
        await kept.read("k", fail)
    assert kept.find("k") is None
    assert not bus._watches


async def test_a_bell_has_eight_members_the_newest_ones(kept):
    for number in range(20):
        await kept.read(number, reading("UV1 AC1"))
    assert [number for number in range(20) if kept.find(number)] == list(range(12, 20))


async def test_members_that_make_room_are_forgotten_by_their_bells_too(bus, kept):
    for number in range(250):
        await kept.read(number, reading(f"UV{number} AC1"))
    assert len(kept) == 100
    assert len(kept._by_bell) == 100
    for number in range(250):
        bus.ring((f"UV{number}",))
    assert (len(kept), len(kept._by_bell)) == (0, 0)


async def test_a_key_that_passes_to_another_bell_leaves_the_first(bus, kept):
    await kept.read("k", reading("UV1 AC1"))
    await kept.read("k", reading("UV2 AC2"))
    bus.ring(("UV1", "AC1"))
    assert kept.find("k") == "UV2 AC2"
    bus.ring(("UV2",))
    assert kept.find("k") is None
    assert not kept._by_bell
