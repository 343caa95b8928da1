"""Devices registered, found, changed in one piece, removed; tokens proven."""

import pytest
from tests.unit.features.fleet import fleet

from fleetvisor.features.devices.model import DeviceChange, Registration
from fleetvisor.ground.errors import Conflict, Invalid, NotFound
from fleetvisor.ground.pages import PageRequest


async def test_a_device_is_found_by_sid_in_any_case_and_by_name():
    at = await fleet()
    sid = await at.device("boiler")
    assert (await at.devices.get(at.account, "boiler")).device_sid == sid
    assert (await at.devices.get(at.account, sid[:2] + sid[2:].upper())).device_sid == sid


async def test_another_account_s_device_is_not_found_even_from_memory():
    """The second reading comes from memory, where accounts must be told apart as well."""
    at = await fleet()
    sid = await at.device("boiler")
    await at.devices.get(at.account, sid)
    for ref in (sid, "boiler"):
        with pytest.raises(NotFound):
            await at.devices.get(at.other, ref)
        with pytest.raises(NotFound):
            await at.devices.update(at.other, ref, DeviceChange(restart=True))
        with pytest.raises(NotFound):
            await at.devices.delete(at.other, ref)


async def test_two_accounts_may_use_the_same_name():
    at = await fleet()
    await at.device("boiler")
    await at.device("boiler", account=at.other)
    with pytest.raises(Conflict):
        await at.device("boiler")


async def test_a_board_keeps_its_own_sid_and_no_other_account_can_take_it():
    at = await fleet()
    sid = "UV" + "ab" * 16
    made = await at.devices.create(at.account, Registration(sid=sid.upper()))
    assert made.device.device_sid == sid
    with pytest.raises(Conflict):
        await at.devices.create(at.other, Registration(sid=sid))


async def test_a_change_is_all_or_nothing():
    """A name that is taken keeps the target, the logging and the restart from happening."""
    at = await fleet()
    await at.device("taken")
    sid, app = await at.device("boiler"), await at.app("a")
    events = await at.events()
    change = DeviceChange(unique_name="taken", target_app=app.app_sid, logging_enabled=True, restart=True)
    with pytest.raises(Conflict):
        await at.devices.update(at.account, sid, change)
    device = await at.get(sid)
    assert (device.unique_name, device.target_sid, device.logging_expires, device.update) == (
        "boiler",
        None,
        None,
        None,
    )
    assert await at.events() == events


async def test_an_unknown_app_changes_nothing():
    at = await fleet()
    sid = await at.device("boiler")
    foreign = await at.app("a", account=at.other)
    for ref in ("nonsense", foreign.app_sid, "app-a"):
        with pytest.raises(Invalid, match="TargetApp"):
            await at.devices.update(at.account, sid, DeviceChange(target_app=ref, unique_name="other"))
    assert (await at.get(sid)).unique_name == "boiler"


async def test_a_change_that_asks_for_nothing_moves_no_date_and_rings_no_bell():
    at = await fleet()
    sid = await at.device()
    at.clock.pass_s(10)
    at.rung.clear()
    before = await at.get(sid)
    assert await at.devices.update(at.account, sid, DeviceChange()) == before
    assert at.rung == []


async def test_a_change_moves_date_updated_and_rings_the_device_s_bell():
    at = await fleet()
    sid = await at.device()
    await at.get(sid)
    at.clock.pass_s(10)
    at.rung.clear()
    await at.devices.update(at.account, sid, DeviceChange(restart=True))
    assert (await at.get(sid)).date_updated == at.clock.now()
    assert at.rung == [frozenset({sid})]


async def test_logging_ends_after_a_day_and_may_be_extended():
    at = await fleet()
    sid = await at.device()
    on = await at.devices.update(at.account, sid, DeviceChange(logging_enabled=True))
    assert on.logging_expires == at.clock.now() + 24 * 3600 * 1000
    at.clock.pass_s(23 * 3600)
    on = await at.devices.update(at.account, sid, DeviceChange(logging_enabled=True))
    at.clock.pass_s(23 * 3600)
    assert (await at.get(sid)).logging_expires == on.logging_expires
    at.clock.pass_s(3600)
    assert (await at.get(sid)).logging_expires is None
    await at.devices.update(at.account, sid, DeviceChange(logging_enabled=True))
    off = await at.devices.update(at.account, sid, DeviceChange(logging_enabled=False))
    assert off.logging_expires is None


async def test_an_account_has_a_bounded_number_of_devices_and_removal_makes_room():
    at = await fleet(devices_per_account_max=2)
    sid = await at.device()
    await at.device()
    with pytest.raises(Conflict, match="2"):
        await at.device()
    await at.devices.delete(at.account, sid)
    await at.device()


async def test_lists_are_newest_first_and_walk_both_ways():
    at = await fleet()
    made = []
    for number in range(7):
        at.clock.pass_s(number % 2)  # some in the same millisecond: the SID decides
        made.append(await at.device())
    found, request = [], PageRequest(3)
    pages = []
    while True:
        page = await at.devices.list(at.account, request)
        pages.append(page)
        found += [device.device_sid for device in page.items]
        if page.next is None:
            break
        request = PageRequest(3, page.next)
    assert sorted(found) == sorted(made)
    assert found[0] in made[5:]
    back = await at.devices.list(at.account, PageRequest(3, pages[-1].previous))
    assert back.items == pages[-2].items
    assert pages[0].previous is None


async def test_an_update_number_is_never_used_again_for_the_same_sid():
    at = await fleet()
    sid, app = await at.device(), await at.app("a")
    assert (await at.target(sid, app)).update.number == 1
    await at.devices.delete(at.account, sid)
    await at.devices.create(at.account, Registration(sid=sid))
    assert (await at.target(sid, app)).update.number == 2


async def test_presence_written_behind_is_shown_although_the_row_was_in_memory():
    at = await fleet()
    sid = await at.device()
    await at.get(sid)

    async def body(tx):
        await tx.run("INSERT INTO presence (device_sid, date_seen) VALUES (:sid, 5)", {"sid": sid})

    await at.db.write(body)
    at.devices.forget([sid])
    assert (await at.get(sid)).date_last_seen == 5
