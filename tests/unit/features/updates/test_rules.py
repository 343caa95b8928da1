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


def test_a_failed_update_to_this_target_is_an_error_with_its_code():
    assert status(LastUpdate("KA1", State.FAILED, 2)) == Status("error", 2)


def test_a_failed_update_to_another_target_is_forgotten():
    assert status(LastUpdate("KA2", State.FAILED, 2)) == Status("pending", 0)


def test_a_device_that_left_its_target_too_often_is_an_error():
    assert status(LastUpdate("KA1", State.SUCCEEDED, 0), reached=True) == Status("error", 7)


def test_clearing_the_target_cancels_the_open_update():
    assert rules.retarget(assignment(), update(), None) == Retarget(State.CANCELED, False, False)


def test_a_new_target_supersedes_the_open_update():
    assert rules.retarget(assignment(), update(app_sid="KA0"), app()) == Retarget(State.SUPERSEDED, True, False)


def test_the_same_target_again_makes_nothing_new_while_its_update_is_open():
    assert rules.retarget(assignment(), update(), app()) == Retarget(None, False, False)


def test_targeting_what_already_runs_is_reached_at_once():
    assert rules.retarget(assignment(reported_hash=NEW), None, app()) == Retarget(None, False, True)


def test_a_report_is_news_only_once():
    assert rules.is_newer(assignment(journal="0" * 32, sequence=4), report(sequence=5))
    assert not rules.is_newer(assignment(journal="0" * 32, sequence=5), report(sequence=5))


def test_a_late_report_of_a_journal_that_was_replaced_is_no_news():
    """A reflashed device starts a new journal; what the old one still sends is over."""
    now = assignment(journal="1" * 32, sequence=1, retired_journals="0" * 32)
    assert not rules.is_newer(now, report(sequence=99))


def test_only_the_last_retired_journals_are_kept():
    current = assignment(journal="f" * 32, retired_journals=",".join(str(n) * 32 for n in range(8)))
    retired = rules.retire(current, report(journal="e" * 32)).split(",")
    assert len(retired) == rules.RETIRED_JOURNALS_MAX
    assert retired[-1] == "f" * 32
    assert "0" * 32 not in retired


def test_the_app_that_the_device_names_wins_over_its_target_and_the_newest():
    apps = [app("KA1", date_created=1), app("KA2", date_created=2), app("KA3", date_created=3)]
    assert rules.reported_app(apps, "KA1", "KA2").app_sid == "KA1"
    assert rules.reported_app(apps, None, "KA2").app_sid == "KA2"
    assert rules.reported_app(apps, "KA9", None).app_sid == "KA3"
    assert rules.reported_app([], "KA1", "KA2") is None


def test_a_report_that_would_move_backward_is_ignored():
    assert rules.next_state(update(State.TESTING), report(State.DOWNLOADING), OLD) is None


def test_success_counts_only_while_the_update_s_app_runs():
    assert rules.next_state(update(State.TESTING), report(State.SUCCEEDED), OLD) is None
    assert rules.next_state(update(State.TESTING), report(State.SUCCEEDED, manifest=NEW), NEW) == State.SUCCEEDED


def test_a_device_cannot_cancel_its_update_by_itself():
    assert rules.next_state(update(), report(State.CANCELED), OLD) is None


def test_a_device_that_runs_the_app_and_no_longer_speaks_of_the_update_has_succeeded():
    assert rules.next_state(update(State.TESTING), report(manifest=NEW), NEW) == State.SUCCEEDED


def test_a_failure_without_a_known_code_is_other():
    assert rules.error_code_of(report(State.FAILED, error_code=1234)) == 99
    assert rules.error_code_of(report(State.FAILED, error_code=2)) == 2


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
