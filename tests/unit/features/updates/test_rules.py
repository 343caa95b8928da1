"""The decisions about updates: status, retargeting, which report is news, and how a report moves an update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleetvisor.features.apps.model import App
from fleetvisor.features.updates import rules
from fleetvisor.features.updates.model import Assignment, Update
from fleetvisor.features.updates.rules import LastUpdate, Retarget, Status
from fleetvisor.ground.clock import Millis
from fleetvisor.protocol.lifecycle import CLOSED, OPEN, DeviceAnswer, State, is_open, may_follow
from fleetvisor.protocol.native import Report, Running, UpdateReport

OLD, NEW = "a" * 64, "b" * 64


def assignment(**changes):
    fields = {
        "device_sid": "UV1",
        "account_sid": "AC1",
        "target_sid": None,
        "target_hash": None,
        "date_targeted": None,
        "target_reached": False,
        "retries": 0,
        "last_number": None,
        "reported_sid": None,
        "reported_hash": None,
        "date_reported": None,
        "journal": None,
        "sequence": 0,
        "retired_journals": "",
        "boot_count": None,
        "wake_reason": None,
    }
    return Assignment(**(fields | changes))


def app(sid="KA1", manifest_hash=NEW, date_created=1):
    return App(sid, "AC1", None, manifest_hash, False, 10, 0, 0, 0, date_created)


def update(state=State.PENDING, app_sid="KA1", number=1):
    return Update("UV1", number, "AC1", app_sid, NEW, state, False, 0, 10, 0, 1, 1, None)


def report(state=None, *, number=1, sequence=1, journal="0" * 32, manifest=OLD, error_code=0):
    told = UpdateReport(number, state, error_code=error_code) if state else None
    return Report(journal, sequence, Running(manifest), told)


def status(last=None, *, target_sid="KA1", reported=OLD, reached=False):
    return rules.update_status(
        target_sid=target_sid, target_hash=NEW, reported_hash=reported, target_reached=reached, last=last
    )


def test_without_a_target_a_device_is_up_to_date():
    assert status(target_sid=None) == Status("up-to-date", 0)


def test_a_device_that_reports_its_target_is_up_to_date():
    assert status(LastUpdate("KA1", State.FAILED, 2), reported=NEW) == Status("up-to-date", 0)


@pytest.mark.parametrize("state", OPEN)
def test_an_open_update_is_pending(state):
    assert status(LastUpdate("KA1", state, 0)) == Status("pending", 0)
    assert status(LastUpdate("KA1", state, 0), reached=True) == Status("pending", 0)


def test_a_failed_update_to_this_target_is_an_error_with_its_code():
    assert status(LastUpdate("KA1", State.FAILED, 2)) == Status("error", 2)


def test_a_failed_update_to_another_target_is_forgotten():
    assert status(LastUpdate("KA2", State.FAILED, 2)) == Status("pending", 0)


def test_a_device_that_left_its_target_too_often_is_an_error():
    assert status(LastUpdate("KA1", State.SUCCEEDED, 0), reached=True) == Status("error", 7)


@pytest.mark.parametrize("state", CLOSED)
def test_a_device_whose_update_is_over_waits_for_another_unless_it_failed_or_reverted(state):
    last = LastUpdate("KA1", state, 2)
    assert status(last) == (Status("error", 2) if state == State.FAILED else Status("pending", 0))
    assert status(last, reached=True) == Status("error", 2 if state == State.FAILED else 7)


def test_a_device_that_never_had_an_update_is_pending():
    assert status(None) == status(None, reached=True) == Status("pending", 0)
    assert status(LastUpdate("KA2", State.SUCCEEDED, 0), reached=True) == Status("pending", 0)


def test_clearing_the_target_cancels_the_open_update():
    assert rules.retarget(assignment(), update(), None) == Retarget(State.CANCELED, False, False)


def test_clearing_the_target_of_a_device_without_an_update_closes_none():
    assert rules.retarget(assignment(), None, None) == Retarget(None, False, False)


def test_a_first_target_makes_an_update_and_one_that_runs_closes_the_open_one():
    assert rules.retarget(assignment(), None, app()) == Retarget(None, True, False)
    running = assignment(reported_hash=NEW)
    assert rules.retarget(running, update(app_sid="KA0"), app()) == Retarget(State.SUPERSEDED, False, True)
    assert rules.retarget(running, update(), app()) == Retarget(None, False, False)


def test_a_new_target_supersedes_the_open_update():
    assert rules.retarget(assignment(), update(app_sid="KA0"), app()) == Retarget(State.SUPERSEDED, True, False)


def test_the_same_target_again_makes_nothing_new_while_its_update_is_open():
    assert rules.retarget(assignment(), update(), app()) == Retarget(None, False, False)


def test_targeting_what_already_runs_is_reached_at_once():
    assert rules.retarget(assignment(reported_hash=NEW), None, app()) == Retarget(None, False, True)


def test_a_report_is_news_only_once():
    assert rules.is_newer(assignment(journal="0" * 32, sequence=4), report(sequence=5))
    assert not rules.is_newer(assignment(journal="0" * 32, sequence=5), report(sequence=5))


def test_the_first_report_of_a_journal_is_news_whatever_its_number():
    assert rules.is_newer(assignment(), report(sequence=1))
    known = assignment(journal="1" * 32, sequence=9, retired_journals=",".join(["2" * 32, "3" * 32]))
    assert rules.is_newer(known, report(sequence=1))
    assert not rules.is_newer(known, report(sequence=1, journal="3" * 32))


def test_only_the_last_report_sent_again_is_a_repeat():
    taken = assignment(journal="0" * 32, sequence=5)
    assert rules.is_repeat(taken, report(sequence=5))
    assert not rules.is_repeat(taken, report(sequence=4))
    assert not rules.is_repeat(taken, report(sequence=6))
    assert not rules.is_repeat(taken, report(sequence=5, journal="1" * 32))


def test_a_journal_is_retired_by_the_first_report_of_another():
    assert rules.retire(assignment(), report()) == ""
    went_on = assignment(journal="0" * 32, retired_journals="2" * 32)
    assert rules.retire(went_on, report(journal="0" * 32)) == "2" * 32
    assert rules.retire(went_on, report(journal="1" * 32)) == ",".join(["2" * 32, "0" * 32])
    assert rules.retire(assignment(journal="0" * 32), report(journal="1" * 32)) == "0" * 32


def test_a_late_report_of_a_journal_that_was_replaced_is_no_news():
    """A reflashed device starts a new journal; what the old one still sends is over."""
    now = assignment(journal="1" * 32, sequence=1, retired_journals="0" * 32)
    assert not rules.is_newer(now, report(sequence=99))


def test_only_the_last_retired_journals_are_kept():
    current = assignment(journal="f" * 32, retired_journals=",".join(str(n) * 32 for n in range(8)))
    retired = rules.retire(current, report(journal="e" * 32)).split(",")
    assert len(retired) == rules.RETIRED_JOURNALS_MAX
    assert len(retired) == 8
    assert retired[-1] == "f" * 32
    assert "0" * 32 not in retired


def test_the_app_that_the_device_names_wins_over_its_target_and_the_newest():
    apps = [app("KA1", date_created=1), app("KA2", date_created=2), app("KA3", date_created=3)]
    assert rules.reported_app(apps, "KA1", "KA2").app_sid == "KA1"
    assert rules.reported_app(apps, None, "KA2").app_sid == "KA2"
    assert rules.reported_app(apps, "KA9", None).app_sid == "KA3"
    assert rules.reported_app([], "KA1", "KA2") is None


def test_of_apps_made_at_once_that_are_the_same_the_greater_sid_is_reported():
    apps = [app("KA2", date_created=1), app("KA3", date_created=1), app("KA1", date_created=1)]
    assert rules.reported_app(apps, None, None).app_sid == "KA3"
    assert rules.reported_app(apps, "KA9", "KA1").app_sid == "KA1"


def test_a_report_that_would_move_backward_is_ignored():
    assert rules.next_state(update(State.TESTING), report(State.DOWNLOADING), OLD) is None


def test_a_report_moves_its_own_update_forward_only():
    assert rules.next_state(update(), report(State.INSTALLING), OLD) == State.INSTALLING
    assert rules.next_state(update(State.INSTALLING), report(State.FAILED), OLD) == State.FAILED
    assert rules.next_state(update(), report(State.INSTALLING, number=2), OLD) is None
    assert rules.next_state(update(), report(State.FAILED, number=2, manifest=NEW), NEW) == State.SUCCEEDED
    assert rules.next_state(update(), report(), OLD) is None
    assert rules.next_state(update(), report(State.TESTING, manifest=NEW), NEW) == State.TESTING


def test_success_counts_only_while_the_update_s_app_runs():
    assert rules.next_state(update(State.TESTING), report(State.SUCCEEDED), OLD) is None
    assert rules.next_state(update(State.TESTING), report(State.SUCCEEDED, manifest=NEW), NEW) == State.SUCCEEDED


def test_a_device_cannot_cancel_its_update_by_itself():
    assert rules.next_state(update(), report(State.CANCELED), OLD) is None
    assert rules.next_state(update(), report(State.SUPERSEDED), OLD) is None


def test_a_device_that_runs_the_app_and_no_longer_speaks_of_the_update_has_succeeded():
    assert rules.next_state(update(State.TESTING), report(manifest=NEW), NEW) == State.SUCCEEDED


def test_a_failure_without_a_known_code_is_other():
    assert rules.error_code_of(report(State.FAILED, error_code=1234)) == 99
    assert rules.error_code_of(report(State.FAILED, error_code=2)) == 2
    assert rules.error_code_of(report(State.FAILED)) == 99
    assert rules.error_code_of(report()) == 99


@given(st.sampled_from(State), st.sampled_from(State))
def test_states_only_move_forward(old, new):
    """No state follows itself, a closed one has no successor, and no pair follows both ways."""
    if may_follow(old, new):
        assert is_open(old)
        assert old != new
        assert not may_follow(new, old)


@given(st.lists(st.sampled_from(State), max_size=12))
def test_no_sequence_of_reports_opens_a_closed_update(states):
    current = update()
    closed_at = None
    for state in states:
        moved = rules.next_state(current, report(state, manifest=NEW), NEW)
        if closed_at is not None:
            assert moved is None
        if moved is not None:
            current = update(moved)
            closed_at = moved if moved in CLOSED else None


ANSWERED = {
    DeviceAnswer.SCHEDULED: (None, 0),
    DeviceAnswer.PROCEEDING: (State.DOWNLOADING, 0),
    DeviceAnswer.DOWNLOADED: (State.INSTALLING, 0),
    DeviceAnswer.FINISHED: (State.SUCCEEDED, 0),
    DeviceAnswer.FAILED: (State.FAILED, 6),
    DeviceAnswer.REFUSED: (State.FAILED, 8),
    DeviceAnswer.CANCELED: (State.FAILED, 99),
}


@pytest.mark.parametrize("answer", DeviceAnswer)
def test_each_answer_of_a_device_moves_a_pending_update(answer):
    assert rules.verdict_of(update(), answer) == ANSWERED[answer]


def test_a_device_that_was_asked_may_give_its_update_up_and_one_told_to_skip_has_skipped():
    asked, skipped = replace(update(), cancel_requested=True), replace(update(), mode="skip")
    assert rules.verdict_of(asked, DeviceAnswer.CANCELED) == (State.CANCELED, 0)
    assert rules.verdict_of(asked, DeviceAnswer.FINISHED) == (State.SUCCEEDED, 0)
    assert rules.verdict_of(skipped, DeviceAnswer.FINISHED) == (State.CANCELED, 0)
    assert rules.verdict_of(skipped, DeviceAnswer.FAILED) == (State.FAILED, 6)


def test_an_answer_about_work_under_way_never_moves_an_update_back():
    later = update(State.INSTALLING)
    assert rules.verdict_of(later, DeviceAnswer.PROCEEDING) == (None, 0)
    assert rules.verdict_of(later, DeviceAnswer.DOWNLOADED) == (None, 0)


def test_a_device_that_could_not_cancel_has_failed_as_one_that_gave_up():
    assert rules.verdict_of(update(), DeviceAnswer.CANCELED) == rules.COULD_NOT_CANCEL


@pytest.mark.parametrize("state", CLOSED)
@pytest.mark.parametrize("code", [2, 9, 99])
def test_a_late_success_counts_unless_the_device_itself_ended_the_update(state, code):
    """Code 9 is of an update that nobody reported in time, code 99 of one that the device gave up without a reason."""
    over = replace(update(state), error_code=code)
    nobody_waited = state in {State.CANCELED, State.SUPERSEDED} or (state == State.FAILED and code != 2)
    assert rules.counts_late(over, rules.Verdict(State.SUCCEEDED)) is nobody_waited
    for other in (State.FAILED, State.CANCELED, None):
        assert not rules.counts_late(over, rules.Verdict(other))


def test_a_target_that_is_not_reported_asks_for_an_update():
    wanted = assignment(target_sid="KA1", target_hash=NEW)
    assert rules.is_due(wanted)
    assert rules.is_due(replace(wanted, reported_hash=OLD))
    assert not rules.is_due(replace(wanted, reported_hash=NEW))
    assert not rules.is_due(assignment(reported_hash=OLD))


def test_only_a_device_that_reached_its_target_can_have_left_it():
    reached = assignment(target_sid="KA1", target_hash=NEW, target_reached=True)
    assert rules.reverted(reached, OLD)
    assert rules.reverted(reached, None)
    assert not rules.reverted(reached, NEW)
    assert not rules.reverted(replace(reached, target_reached=False), OLD)
    assert not rules.reverted(assignment(target_reached=True), OLD)
    assert not rules.needs_another(replace(reached, target_reached=False), OLD, 3)


def test_a_device_that_left_its_target_gets_a_bounded_number_of_new_updates():
    left = assignment(target_sid="KA1", target_hash=NEW, target_reached=True, retries=2)
    assert rules.needs_another(left, OLD, 3)
    assert not rules.needs_another(left, OLD, 2)
    assert not rules.needs_another(left, NEW, 3)


SECONDS_2026, SECONDS_2087 = 1_767_225_600, 3_692_217_600
SINCE = 1_577_836_800


@pytest.mark.parametrize(
    ("last", "second", "number"),
    [
        (0, SECONDS_2026 - 1, 1),
        (0, SECONDS_2026, SECONDS_2026 - SINCE),
        (7, SECONDS_2026 - 1, 8),
        (SECONDS_2026 - SINCE, SECONDS_2026, SECONDS_2026 - SINCE + 1),
        (0, SECONDS_2087 - 1, SECONDS_2087 - 1 - SINCE),
        (0, SECONDS_2087, 1),
        (rules.NUMBER_MAX - 1, SECONDS_2026, rules.NUMBER_MAX),
        (rules.NUMBER_MAX, SECONDS_2026, None),
        (0, 0, 1),
        (0, -1, 1),
        (0, 1 << 40, 1),
    ],
)
def test_a_number_is_above_the_last_and_not_below_the_seconds_since_2020_of_a_clock_that_counts(last, second, number):
    assert rules.next_number(last, Millis(second * 1000)) == number


@given(st.lists(st.tuples(st.integers(-(1 << 40), 1 << 40), st.booleans()), max_size=40))
def test_whatever_the_clock_does_numbers_rise_and_none_comes_back_after_a_restore(steps):
    """A restore forgets the last number; with a clock that counts and has moved on, no number of before comes back."""
    last, kept, had = 0, 0, set()
    for millis, restored in steps:
        if restored and rules.next_number(0, Millis(millis)) > max(had, default=0):
            last = kept
        number = rules.next_number(last, Millis(millis))
        assert number is not None
        assert number > last
        assert number not in had
        had.add(number)
        last = number
