"""The agent's conversation, read as a script: what it asks, what it is answered, what it does next."""

import pytest
from tests.unit.agent.script import FRESH, Play, app, desired, firmware, manifest, running

from fleetvisor.agent.commands import (
    AskLeave,
    Boot,
    Checked,
    Done,
    Failure,
    Fetch,
    Fetched,
    FlashBroken,
    Poll,
    Polled,
    Program,
    Reboot,
    SelfTest,
    Taken,
    Tell,
    Unchanged,
    Unexpected,
    Verify,
    Wait,
)
from fleetvisor.agent.state import (
    Abandoned,
    Armed,
    Booted,
    Confirmed,
    Failed,
    Image,
    Marked,
    Restarting,
    Started,
    Told,
    apply,
)
from fleetvisor.agent.talk import Options

NONE = desired(None)


def on_trial(name: str = "v2") -> Play:
    state = running("v1")
    for record in (Started(2, Image(manifest(name), "KA" + "1" * 32)), Armed(), Booted()):
        state = apply(state, record)
    return Play(state)


def test_a_boot_is_reported_before_the_first_poll() -> None:
    play = Play(running("v1"))
    assert isinstance(play.command, Tell)
    report = play.command.report
    assert report.running.manifest == manifest("v1")
    assert (report.boot_count, report.update) == (3, None)
    assert play.boot_report() == Poll(None, 0)


def test_without_a_target_there_is_nothing_to_do() -> None:
    play = Play()
    play.boot_report()
    assert play.polled(NONE) == Poll('"1"', 50)
    assert play.kept == []


def test_a_target_without_an_open_update_is_left_alone() -> None:
    play = Play()
    play.boot_report()
    assert isinstance(play.polled(desired(app("v1", None))), Poll)
    assert play.kept == []


def test_an_update_is_downloaded_verified_checked_once_more_armed_and_booted() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    play.download("v1")
    assert play.command == Poll('"1"', 0)
    assert isinstance(play.answer(Unchanged()), Reboot)
    assert play.states() == ["downloading", "downloading", "downloading", "installing"]
    assert isinstance(play.kept[0], Started)
    assert isinstance(play.kept[-1], Armed)
    assert [record.done for record in play.kept if isinstance(record, Marked)] == [2, 4, 5, 8]


def test_the_trial_tests_itself_then_reports_then_confirms_then_tells_success() -> None:
    play = on_trial()
    assert play.command == SelfTest(manifest("v2"))
    tell = play.answer(Checked(good=True))
    assert isinstance(tell, Tell)
    assert tell.report.running.manifest == manifest("v2")
    assert tell.report.wake_reason == 9
    assert play.kept == []
    play.answer(Taken(taken=True))
    assert play.kept == [Confirmed()]
    assert play.answer(Taken(taken=True)) == Poll(None, 0)
    assert play.states() == ["testing", "succeeded"]
    assert play.kept == [Confirmed(), Told()]


def test_an_app_that_fails_its_self_test_is_never_confirmed() -> None:
    play = on_trial()
    assert isinstance(play.answer(Checked(good=False)), Reboot)
    assert play.kept == []


def test_an_app_that_cannot_reach_the_server_in_the_trials_time_is_never_confirmed() -> None:
    play = on_trial()
    play.answer(Checked(good=True))
    for _ in range(1000):
        if isinstance(play.command, Reboot):
            break
        delay_s = play.command.delay_s if isinstance(play.command, Wait) else 1.0
        play.answer(Done() if isinstance(play.command, Wait) else Failure(None, "closed"), after_s=delay_s)
    assert isinstance(play.command, Reboot)
    assert play.kept == []


def test_a_reverted_trial_is_told_as_failed_7_with_the_old_app_running() -> None:
    play = Play(apply(on_trial().core.state, Booted()))
    assert isinstance(play.command, Tell)
    update = play.command.report.update
    assert update is not None
    assert (update.number, update.state, update.error_code) == (2, "failed", 7)
    assert play.command.report.running.manifest == manifest("v1")
    play.answer(Taken(taken=True))
    assert play.kept == [Told()]


def test_a_failed_update_is_not_tried_again_but_told_again() -> None:
    state = apply(apply(running("v1"), Failed(2, manifest("v2"), 2)), Told())
    play = Play(state)
    play.boot_report()
    assert isinstance(play.polled(desired(app("v2", 2))), Tell)
    assert isinstance(play.answer(Taken(taken=True)), Poll)
    assert play.states() == ["failed"]


def test_the_same_app_under_a_new_number_is_tried_again() -> None:
    play = Play(apply(apply(running("v1"), Failed(2, manifest("v2"), 2)), Told()))
    play.boot_report()
    play.polled(desired(app("v2", 3)))
    play.download("v2")
    assert isinstance(play.answer(Unchanged()), Reboot)


def test_an_open_update_to_what_runs_already_is_told_as_succeeded() -> None:
    play = Play(running("v1"))
    play.boot_report()
    assert isinstance(play.polled(desired(app("v1", 4))), Tell)
    play.answer(Taken(taken=True))
    assert play.states() == ["succeeded"]


@pytest.mark.parametrize(
    ("size", "region", "kept"), [(300, 1024, 3), (513, 513, 3)], ids=["region leaves the slot", "layer too long"]
)
def test_an_app_that_does_not_fit_fails_with_3_and_nothing_is_fetched(size: int, region: int, kept: int) -> None:
    play = Play()
    play.boot_report()
    assert isinstance(play.polled(desired(app("big", 1, size, region))), Tell)
    assert play.kept == [Failed(1, manifest("big", size, region), kept)]


def test_a_slot_that_reads_back_wrong_fails_with_2_and_is_never_armed() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    while not isinstance(play.command, Verify):
        match play.command:
            case Tell():
                play.answer(Taken(taken=True))
            case Fetch(_, start, end):
                play.answer(Fetched(bytes(end - start)))
            case _:
                play.answer(Done())
    play.answer(Checked(good=False))
    assert play.kept[-1] == Failed(1, manifest("v1"), 2)
    assert Armed() not in play.kept


def test_a_worn_flash_fails_with_6() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    play.answer(Taken(taken=True))
    assert isinstance(play.command, Fetch)
    play.answer(Fetched(firmware("v1")[: play.command.end]))
    assert isinstance(play.command, Program)
    play.answer(FlashBroken("worn"))
    assert play.kept[-1] == Failed(1, manifest("v1"), 6)


def test_a_layer_that_is_refused_again_and_again_fails_with_1() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    play.answer(Taken(taken=True))
    while not isinstance(play.command, Tell):
        match play.command:
            case Fetch():
                play.answer(Failure(404, "not found"))
            case Poll():
                play.answer(Unchanged())
            case _:
                play.answer(Done())
    assert play.kept[-1] == Failed(1, manifest("v1"), 1)


def test_a_network_that_fails_is_borne_for_as_long_as_the_update_is_wanted() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    play.answer(Taken(taken=True))
    for _ in range(50):
        match play.command:
            case Wait(delay_s):
                play.answer(Done(), after_s=delay_s)
            case Poll():
                play.answer(Failure(None, "closed"))
            case command:
                assert isinstance(command, Fetch)
                play.answer(Failure(503, "busy"))
    play.now_s += 1
    while not isinstance(play.command, Fetch):
        play.answer(Unchanged() if isinstance(play.command, Poll) else Done())
    play.download("v1")
    assert isinstance(play.answer(Unchanged()), Reboot)


def test_a_download_goes_on_where_it_stopped() -> None:
    state = running("v1")
    for record in (Started(2, Image(manifest("v2"), "KA" + "2" * 32)), Marked(2), Booted()):
        state = apply(state, record)
    play = Play(state)
    play.boot_report()
    play.polled(desired(app("v2", 2)))
    assert isinstance(play.command, Tell)
    play.answer(Taken(taken=True))
    assert isinstance(play.command, Fetch)
    assert (play.command.start, play.command.end) == (128, 256)


def test_a_new_target_in_the_middle_of_a_download_is_noticed_and_gone_to() -> None:
    play = Play()
    play.boot_report()
    play.polled(desired(app("v1", 1)))
    play.answer(Taken(taken=True))
    assert isinstance(play.command, Fetch)
    play.answer(Fetched(firmware("v1")[:128]), after_s=11)
    assert play.answer(Done()) == Tell(play.reports[-1].report) or isinstance(play.command, Tell)
    assert play.answer(Taken(taken=True)) == Poll('"1"', 0)
    play.answer(Polled(desired(app("v2", 2)), '"2"'))
    assert isinstance(play.kept[-1], Started)
    assert play.kept[-2] == Abandoned()
    play.download("v2")
    play.answer(Unchanged())
    assert play.kept[-1] == Armed()


def test_a_cancelled_update_is_not_armed_even_when_it_is_already_verified() -> None:
    play = Play(running("v1"))
    play.boot_report()
    play.polled(desired(app("v2", 2)))
    play.download("v2")
    assert play.command == Poll('"1"', 0)
    assert play.answer(Polled(NONE, '"2"')) == Poll('"2"', 50)
    assert play.kept[-1] == Abandoned()
    assert Armed() not in play.kept


def test_a_restart_is_obeyed_once() -> None:
    play = Play(running("v1"))
    play.boot_report()
    assert isinstance(play.polled(desired(None, restart=3)), Reboot)
    assert play.kept == [Restarting(3)]
    again = Play(apply(play.core.state, Booted()))
    assert isinstance(again.command, Tell)
    assert again.command.report.wake_reason == 2
    again.boot_report()
    assert again.polled(desired(None, restart=3)) == Poll('"1"', 50)


def test_during_a_trial_no_restart_is_obeyed_before_the_app_is_confirmed() -> None:
    play = on_trial()
    play.answer(Checked(good=True))
    play.answer(Taken(taken=True))
    play.answer(Taken(taken=True))
    assert isinstance(play.polled(desired(app("v2", None), restart=1)), Reboot)
    assert play.kept == [Confirmed(), Told(), Restarting(1)]


def test_the_running_app_may_delay_an_update_for_as_long_as_its_policy_says() -> None:
    play = Play(running("v1"))
    play.boot_report()
    play.polled(desired(app("v2", 2), politeness_s=12))
    play.download("v2")
    verified_s = play.now_s
    while not isinstance(play.command, Reboot):
        match play.command:
            case AskLeave():
                play.answer(Checked(good=False), after_s=0)
            case Wait(delay_s):
                play.answer(Done(), after_s=delay_s)
            case command:
                assert command == Poll('"1"', 0)
                play.answer(Unchanged(), after_s=0)
    assert play.now_s - verified_s == pytest.approx(12)


def test_an_app_that_agrees_is_replaced_at_once() -> None:
    play = Play(running("v1"))
    play.boot_report()
    play.polled(desired(app("v2", 2), politeness_s=3600))
    play.download("v2")
    assert isinstance(play.command, AskLeave)
    assert play.answer(Checked(good=True)) == Poll('"1"', 0)


def test_the_view_shows_what_runs_how_far_it_is_and_whether_logs_are_wanted() -> None:
    play = Play(running("v1"))
    play.boot_report()
    play.polled(desired(app("v2", 2), logs=True))
    play.answer(Taken(taken=True))
    assert isinstance(play.command, Fetch)
    play.answer(Fetched(firmware("v2")[:128]))
    play.answer(Done())
    view = play.core.view
    assert (view.phase, view.running) == ("downloading", manifest("v1"))
    assert (view.bytes_done, view.bytes_total, view.logging) == (128, 300, True)


def test_an_answer_to_another_command_is_the_drivers_fault() -> None:
    play = Play(FRESH, Options())
    with pytest.raises(Unexpected):
        play.answer(Done())
    with pytest.raises(Unexpected):
        Play().core.step(Boot(), 0.0)
