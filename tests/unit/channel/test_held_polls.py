"""Held polls: what ends a wait, and that no bell is lost."""

import asyncio

import pytest

from fleetvisor.bus.bus import Bus
from fleetvisor.channel.held_polls import HeldPolls, Wake

DEVICE = "UV" + "1" * 32
OTHER = "UV" + "2" * 32


class Client:
    """The receiving end of a request: says ``http.request`` once, then nothing until it leaves."""

    def __init__(self):
        self.gone = asyncio.Event()
        self.first = True

    async def receive(self):
        if self.first:
            self.first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
def bus():
    return Bus()


@pytest.fixture
def polls_held(bus):
    return HeldPolls(bus=bus, held_max=3, per_device_max=2)


async def test_a_bell_of_the_device_ends_the_wait(polls_held, bus):
    held = polls_held.hold(DEVICE, Client().receive)
    asyncio.get_running_loop().call_later(0.01, bus.ring, [DEVICE, OTHER])
    assert await held.wait(10) is Wake.BELL
    polls_held.leave(held)
    assert polls_held.held == 0


async def test_a_bell_of_another_device_does_not(polls_held, bus):
    held = polls_held.hold(DEVICE, Client().receive)
    asyncio.get_running_loop().call_later(0.01, bus.ring, [OTHER])
    assert await held.wait(0.05) is Wake.TIME
    polls_held.leave(held)


async def test_a_bell_between_two_waits_ends_the_next_at_once(polls_held, bus):
    held = polls_held.hold(DEVICE, Client().receive)
    bus.ring([DEVICE])
    assert await held.wait(10) is Wake.BELL
    assert await held.wait(0.01) is Wake.TIME
    polls_held.leave(held)


async def test_a_client_that_leaves_ends_the_wait(polls_held):
    client = Client()
    held = polls_held.hold(DEVICE, client.receive)
    asyncio.get_running_loop().call_later(0.01, client.gone.set)
    assert await held.wait(10) is Wake.GONE
    polls_held.leave(held)


async def test_release_ends_every_wait_and_nothing_is_held_after(polls_held):
    polls = [polls_held.hold(sid, Client().receive) for sid in (DEVICE, DEVICE, OTHER)]
    polls_held.release_all()
    polls_held.release_all()
    assert [await held.wait(10) for held in polls] == [Wake.RELEASE] * 3
    for held in polls:
        polls_held.leave(held)
    assert polls_held.held == 0
    assert polls_held.hold(DEVICE, Client().receive) is None


async def test_a_bell_does_not_hide_the_release(polls_held, bus):
    held = polls_held.hold(DEVICE, Client().receive)
    polls_held.release_all()
    bus.ring([DEVICE])
    assert await held.wait(10) is Wake.RELEASE
    polls_held.leave(held)


async def test_above_its_bound_nothing_is_held(polls_held):
    polls = [polls_held.hold(sid, Client().receive) for sid in (DEVICE, DEVICE, OTHER, OTHER)]
    assert [held is not None for held in polls] == [True, True, True, False]
    polls_held.leave(polls[1])
    assert polls_held.held == 2
    again = polls_held.hold(OTHER, Client().receive)
    assert again is not None
    for held in (polls[0], polls[2], again):
        polls_held.leave(held)
    assert polls_held.held == 0


async def test_leaving_stops_the_watching_of_the_client(polls_held):
    before = asyncio.all_tasks()
    held = polls_held.hold(DEVICE, Client().receive)
    polls_held.leave(held)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_one_device_takes_no_more_than_its_share_of_places(polls_held):
    polls = [polls_held.hold(DEVICE, Client().receive) for _ in range(2)]
    assert polls_held.hold(DEVICE, Client().receive) is None
    assert (other := polls_held.hold(OTHER, Client().receive)) is not None
    polls_held.leave(polls[0])
    polls_held.leave(other)
    assert (again := polls_held.hold(DEVICE, Client().receive)) is not None
    for held in (polls[1], again):
        polls_held.leave(held)
