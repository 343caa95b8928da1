"""What devices fetch of their updates: noted while bytes flow, seldom, and written so that a download is heard of."""

from tests.unit.features.fleet import fleet

from fleetvisor.features.updates.fetches import Fetches
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.lifecycle import State

SID, OTHER = "UV" + "1" * 32, "UV" + "2" * 32


def test_a_download_that_goes_on_is_noted_again_only_after_a_while():
    fetches = Fetches(Limits(report_timeout_s=3600))
    for second in range(0, 150, 10):
        fetches.note(SID, "a", second * 1000)
        if second == 50:
            assert [fetch.date for fetch in fetches.take()] == [0]
    assert [fetch.date for fetch in fetches.take()] == [120_000]


def test_a_short_time_out_is_noted_often_enough():
    fetches = Fetches(Limits(report_timeout_s=4))
    assert [len(fetches.take()) for second in range(4) if fetches.note(SID, "a", second * 1000) is None] == [1] * 4


def test_notes_that_could_not_be_written_are_kept_and_newer_ones_win():
    fetches = Fetches(Limits())
    fetches.note(SID, "a", 1000)
    fetches.note(OTHER, "a", 1000)
    taken = fetches.take()
    fetches.note(SID, "a", 200_000)
    fetches.keep(taken)
    assert {(fetch.device_sid, fetch.date) for fetch in fetches.take()} == {(SID, 200_000), (OTHER, 1000)}


async def test_a_fetch_moves_the_deadline_of_the_update_that_it_belongs_to_and_of_no_other():
    at = await fleet(report_timeout_s=60)
    sid, other, app = await at.device(), await at.device(), await at.app("b")
    for each in (sid, other):
        await at.target(each, app)
    fetches = Fetches(Limits(report_timeout_s=60))
    fetches.note(sid, "b" * 64, at.clock.now())
    fetches.note(other, "c" * 64, at.clock.now())
    await at.db.write(lambda tx: fetches.write(tx, fetches.take()))
    update = await at.updates.get(at.account, sid, 1)
    assert (update.date_fetched, update.date_deadline) == (at.clock.now(), at.clock.now() + 60_000)
    update = await at.updates.get(at.account, other, 1)
    assert (update.date_fetched, update.date_deadline) == (None, None)


async def test_a_success_without_any_fetch_is_told_of_and_one_after_a_fetch_in_the_same_second_is_not():
    at = await fleet()
    sid, other, app = await at.device(), await at.device(), await at.app("b")
    for each in (sid, other):
        await at.target(each, app)
    at.fetches.note(sid, "b" * 64, at.clock.now())
    for each in (sid, other):
        await at.report(each, "b", State.SUCCEEDED)
    assert [(await at.updates.get(at.account, each, 1)).unfetched for each in (sid, other)] == [False, True]
    assert (await at.events()).count("update.not_fetched") == 1
