"""The life of an update, from a target to the last report, as the rows and the API's Device show it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.features.fleet import fleet

from fleetvisor.features.devices.model import DeviceChange
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.pages import PageRequest
from fleetvisor.protocol.lifecycle import CLOSED, State, is_open


async def status(at, sid):
    device = await at.get(sid)
    return device.update_status, device.update_error_code


async def test_an_update_goes_from_target_to_success():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    device = await at.target(sid, app)
    assert (device.update_status, device.target_hash, device.update.bytes_total) == ("pending", "b" * 64, 100)
    for state in (State.DOWNLOADING, State.INSTALLING, State.TESTING):
        assert await at.report(sid, "a", state)
        device = await at.get(sid)
        assert (device.update.state, device.update_status) == (state, "pending")
    assert await at.report(sid, "b", State.SUCCEEDED)
    device = await at.get(sid)
    assert (device.update.state, device.update_status, device.reported_sid) == ("succeeded", "up-to-date", app.app_sid)
    assert device.update.bytes_done == device.update.bytes_total == 100
    assert (await at.events())[-3:] == ["update.succeeded", "update.not_fetched", "device.reported"]


async def test_a_failure_is_an_error_until_the_same_target_is_set_again():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    await at.report(sid, "a", State.FAILED, error_code=2)
    assert await status(at, sid) == ("error", 2)
    device = await at.target(sid, app)
    assert (device.update_status, device.update.number) == ("pending", 2)


async def test_the_same_target_while_its_update_is_open_moves_the_date_only():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    at.clock.pass_s(5)
    device = await at.target(sid, app)
    assert device.update.number == 1
    assert device.date_targeted == at.clock.now()


async def test_a_new_target_supersedes_the_open_update():
    at = await fleet()
    sid, one, two = await at.device(), await at.app("b"), await at.app("c")
    await at.target(sid, one)
    device = await at.target(sid, two)
    assert (device.update.number, device.update.app_sid) == (2, two.app_sid)
    assert (await at.updates.get(at.account, sid, 1)).state == State.SUPERSEDED
    await at.report(sid, "b", State.SUCCEEDED, number=1)
    assert (await at.updates.get(at.account, sid, 1)).state == State.SUPERSEDED
    assert (await at.get(sid)).reported_sid == one.app_sid


async def test_targeting_what_already_runs_is_up_to_date_at_once():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.report(sid, "b")
    device = await at.target(sid, app)
    assert (device.update_status, device.update) == ("up-to-date", None)


async def test_clearing_the_target_cancels():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    device = await at.target(sid, None)
    assert (device.update.state, device.target_sid, device.date_targeted) == (State.CANCELED, None, None)
    assert device.update_status == "up-to-date"


async def test_cancel_update_puts_the_target_back_to_what_runs():
    at = await fleet()
    sid, old, new = await at.device(), await at.app("a"), await at.app("b")
    await at.report(sid, "a")
    await at.target(sid, new)
    device = await at.devices.update(at.account, sid, DeviceChange(cancel_update=True))
    assert (device.target_sid, device.update_status, device.update.state) == (old.app_sid, "up-to-date", "canceled")


async def test_cancel_update_of_a_device_that_never_reported_clears_the_target():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    device = await at.devices.update(at.account, sid, DeviceChange(cancel_update=True))
    assert (device.target_sid, device.update.state) == (None, State.CANCELED)


async def test_a_device_that_leaves_its_target_gets_three_new_updates_and_then_an_error():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    for number in range(1, 5):
        await at.report(sid, "b", State.SUCCEEDED, number=number)
        await at.report(sid, "a")
        if number <= 3:
            device = await at.get(sid)
            assert (device.update.number, device.update.state) == (number + 1, State.PENDING)
    assert await status(at, sid) == ("error", 7)
    assert (await at.target(sid, app)).update.number == 5


async def test_an_image_that_nobody_uploaded_is_reported_as_none():
    at = await fleet()
    sid = await at.device()
    await at.report(sid, "f")
    device = await at.get(sid)
    assert device.reported_sid is None
    assert device.date_reported == at.clock.now()


async def test_another_account_s_app_is_never_what_a_device_reports():
    at = await fleet()
    await at.app("b", account=at.other)
    sid = await at.device()
    await at.report(sid, "b")
    assert (await at.get(sid)).reported_sid is None


async def test_a_repeated_report_is_acknowledged_and_changes_nothing():
    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    assert await at.report(sid, "b", State.SUCCEEDED, sequence=7)
    at.rung.clear()
    assert not await at.report(sid, "a", State.FAILED, sequence=7)
    assert await status(at, sid) == ("up-to-date", 0)
    assert at.rung == []


async def test_a_report_of_a_removed_device_is_not_found():
    at = await fleet()
    sid = await at.device()
    await at.devices.delete(at.account, sid)
    with pytest.raises(NotFound):
        await at.report(sid, "a")


async def test_an_update_without_a_report_in_time_fails_with_code_9():
    """The clock starts at the first fetch, and every report about the update starts it anew."""
    from fleetvisor.features.updates import store

    at = await fleet()
    sid, app = await at.device(), await at.app("b")
    await at.target(sid, app)
    at.clock.pass_s(100_000)
    assert await at.updates.expire() == 0, "a device that is away is given time"

    async def fetched(tx):
        await store.start_clock(tx, [{"device_sid": sid, "number": 1, "deadline": at.clock.now() + 3_600_000}])

    await at.db.write(fetched)
    at.clock.pass_s(3000)
    await at.report(sid, "a", State.DOWNLOADING)
    at.clock.pass_s(3000)
    assert await at.updates.expire() == 0
    at.clock.pass_s(601)
    assert await at.updates.expire() == 1
    assert await status(at, sid) == ("error", 9)
    assert await at.updates.expire() == 0


async def test_the_history_is_listed_newest_first():
    at = await fleet()
    sid, one, two = await at.device(), await at.app("b"), await at.app("c")
    for number in range(5):
        await at.target(sid, one if number % 2 else two)
    page = await at.updates.list(at.account, sid, PageRequest(3))
    assert [update.number for update in page.items] == [5, 4, 3]
    rest = await at.updates.list(at.account, sid, PageRequest(3, page.next))
    assert [update.number for update in rest.items] == [2, 1]
    assert rest.next is None
    back = await at.updates.list(at.account, sid, PageRequest(3, rest.previous))
    assert [update.number for update in back.items] == [5, 4, 3]
    with pytest.raises(NotFound):
        await at.updates.get(at.other, sid, 1)


STEP = st.one_of(
    st.tuples(st.just("target"), st.sampled_from("abc-")),
    st.tuples(st.just("report"), st.sampled_from("abcf"), st.sampled_from([None, *State]), st.integers(1, 4)),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("late"), st.sampled_from("abc"), st.integers(1, 4)),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=25))
def test_no_sequence_of_acts_breaks_the_lifecycle(steps):
    """At most one update is open; closed states stay; numbers count up; the status follows from the rows."""
    import asyncio

    async def run():
        at = await fleet()
        sid = await at.device()
        apps = {letter: await at.app(letter) for letter in "abc"}
        closed = {}
        for step in steps:
            match step:
                case ("target", letter):
                    await at.target(sid, apps.get(letter))
                case ("report", letter, state, number):
                    await at.report(sid, letter, state, number=number)
                case ("cancel",):
                    await at.devices.update(at.account, sid, DeviceChange(cancel_update=True))
                case ("late", letter, sequence):
                    await at.report(sid, letter, sequence=sequence)
            page = await at.updates.list(at.account, sid, PageRequest(1000))
            assert [update.number for update in page.items] == list(range(len(page.items), 0, -1))
            assert sum(is_open(update.state) for update in page.items) <= 1
            for update in page.items:
                assert closed.get(update.number, update.state) == update.state
                if update.state in CLOSED:
                    closed[update.number] = update.state
            device = await at.get(sid)
            if device.target_sid is None:
                assert device.update_status == "up-to-date"
            if device.update_status == "pending":
                assert device.update is not None
                assert is_open(device.update.state)
                assert device.update.app_sid == device.target_sid

    asyncio.run(run())
