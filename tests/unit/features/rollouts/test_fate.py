"""What becomes of a device in a rollout: whose word counts, who is left out and why, and whom a rollback is about."""

import pytest
from msgspec.structs import replace
from tests.unit.features.rollouts.test_rollouts_rules import rollout

from fleetvisor.features.apps.model import App
from fleetvisor.features.rollouts.fate import (
    LEFT,
    OTHER,
    TAKE,
    TAKEN_BACK,
    Fate,
    Source,
    Subject,
    app_sid_for,
    decide,
    has_newer_instruction,
)
from fleetvisor.features.updates.model import STATES

OURS = rollout(date_started=5000)
FIRST, LATER = "RO" + "0" * 32, "RO" + "9" * 32
BACK = replace(OURS, kind="rollback", rollback_of=FIRST, app_sid=None)
PLAIN = Subject("active", "a", 5, None, 4000)


def app(**fields):
    blank = dict.fromkeys(App.__struct_fields__)
    return App(**(blank | {"hardware_class": None, "security_counter": None, "damaged": False} | fields))


@pytest.mark.parametrize(
    ("by", "date", "newer"),
    [
        (None, None, False), (None, 4999, False), (None, 5000, True), (None, 5001, True),
        (OURS.rollout_sid, 9999, False), (FIRST, 5000, False), (LATER, 5000, True), (FIRST, 5001, True),
    ],
)  # fmt: skip
def test_the_newest_explicit_instruction_wins(by, date, newer):
    subject = replace(PLAIN, instructed_by=by, date_instructed=date)
    assert has_newer_instruction(subject, OURS) is newer
    assert decide(OURS, subject, app(), 3) == (LEFT if newer else TAKE)
    assert decide(OURS, subject, app(), 3).outcome == ("left" if newer else "take")


def test_nothing_is_newer_than_a_rollout_that_has_not_begun():
    assert not has_newer_instruction(replace(PLAIN, date_instructed=9999), replace(OURS, date_started=None))


def why(app_class=None, app_counter=None, **fields):
    found = decide(OURS, replace(PLAIN, **fields), app(hardware_class=app_class, security_counter=app_counter), 3)
    assert (found.outcome == "take") is (found.reason is None)
    return found.reason


def test_a_device_is_left_out_for_a_reason():
    assert why() is None
    assert why("a") is None
    assert why("b") == "hardware"
    assert why("b", hardware_class=None) is None
    assert why(app_counter=4) == "security_counter"
    assert [why(app_counter=5), why(app_counter=4, counter=None), why(app_counter=None)] == [None] * 3
    assert decide(OURS, PLAIN, None, 3) == TAKE  # a removed app asks for no hardware
    assert decide(OURS, PLAIN, app(), 1) == TAKE
    assert why(failures=2) is None
    assert why(failures=3) == "penalty"
    assert why(access="disabled") == "disabled"
    assert why(access="waiting") == "waiting"


@pytest.mark.parametrize("state", STATES)
def test_a_rollback_is_about_the_devices_whose_target_the_other_rollout_changed(state):
    subject = replace(PLAIN, instructed_by=FIRST, source=Source(state, "KA1"))
    changed = {"updating", "offline", "silent", "succeeded", "failed", "canceled"}
    assert decide(BACK, subject, app(), 3) == (TAKE if state in changed else OTHER)
    assert (state in TAKEN_BACK) is (state in changed)


def test_a_rollback_is_not_about_a_device_that_the_other_rollout_never_came_to():
    found = decide(BACK, replace(PLAIN, instructed_by=FIRST), app(), 3)
    assert (found, found.outcome) == (OTHER, "other")


def test_a_rollback_leaves_a_device_that_another_instruction_has():
    source = Source("succeeded", "KA1")
    assert decide(BACK, replace(PLAIN, instructed_by=LATER, source=source), app(), 3) == LEFT
    assert decide(BACK, replace(PLAIN, instructed_by=None, source=source), app(), 3) == LEFT
    assert decide(BACK, replace(PLAIN, instructed_by=BACK.rollout_sid, source=source), app(), 3) == TAKE


def test_a_rollback_leaves_out_a_device_that_cannot_have_back_what_it_ran():
    subject = replace(PLAIN, instructed_by=FIRST, source=Source("succeeded", "KA1"))
    assert decide(BACK, subject, None, 3) == Fate("skip", "previous_removed")
    assert decide(BACK, subject, app(damaged=True), 3) == Fate("skip", "damaged")
    unknown = replace(subject, source=Source("succeeded", None))
    assert decide(BACK, unknown, None, 3) == Fate("skip", "previous_unknown")
    assert decide(BACK, replace(subject, access="disabled"), app(), 3) == Fate("skip", "disabled")


def test_a_release_is_about_its_app_and_a_rollback_about_what_each_device_ran():
    assert app_sid_for(OURS, None) == OURS.app_sid
    assert app_sid_for(BACK, Source("failed", "KA1")) == "KA1"
    assert app_sid_for(BACK, None) is None
