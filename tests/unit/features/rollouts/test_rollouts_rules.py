"""The rules of rollouts: places, waves, thresholds, whose word counts, pace, and what can be done in which state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleetvisor.features.rollouts import rules
from fleetvisor.features.rollouts.guard import Evidence
from fleetvisor.features.rollouts.model import SCALE, Counted, CountRow, Draft, Wave, WaveSize
from fleetvisor.features.rollouts.service import _drafted
from fleetvisor.features.updates.model import STATES
from fleetvisor.ground.errors import Conflict, Invalid
from fleetvisor.ground.limits import Limits
from fleetvisor.protocol.guard_settings import GuardSettings

LIMITS = Limits()


def rollout(**fields):
    draft = Draft("release", "v2", None, "", "", (), GuardSettings(), 0, 0)
    return replace(_drafted("RO" + "1" * 32, "AC" + "0" * 32, draft, "KA" + "0" * 32, None, 1000), **fields)


def wave(percent=None, devices=None):
    return Wave(1, None if percent is None else percent * 10_000, devices, None, None, None, None, None)


def test_places_are_even_and_stay():
    places = [rules.place("RO" + "1" * 32, f"UV{n:032x}") for n in range(2000)]
    assert places == [rules.place("RO" + "1" * 32, f"UV{n:032x}") for n in range(2000)]
    for tenth in range(10):
        inside = sum(tenth / 10 <= place / SCALE < (tenth + 1) / 10 for place in places)
        assert 140 <= inside <= 260
    other = [rules.place("RO" + "2" * 32, f"UV{n:032x}") for n in range(2000)]
    assert sum(a < SCALE // 10 and b < SCALE // 10 for a, b in zip(places, other, strict=True)) < 60


def test_a_place_never_changes():
    """NOTE: stored thresholds count on it, so that a device stays in its wave when the server gets newer."""
    assert rules.place("RO" + "1" * 32, "UV" + "0" * 32) == 4114942902009225


def test_just_as_many_waves_as_allowed_are_parsed():
    most = LIMITS.rollout_waves_max
    assert len(rules.parse_waves(",".join(str(number) for number in range(1, most + 1)), LIMITS)) == most


def test_shares_and_numbers_of_devices_must_each_grow_but_not_beside_one_another():
    assert len(rules.parse_waves("500,10%,501,11%", LIMITS)) == 4
    for text in ("500,10%,499", "500,10%,10%"):
        with pytest.raises(Invalid, match="further than the wave before"):
            rules.parse_waves(text, LIMITS)


@pytest.mark.parametrize(
    ("text", "devices"), [("1", 1), ("99999999", 99_999_999), ("100000000", None), ("01", None), ("+1", None)]
)
def test_a_number_of_devices_has_at_most_eight_digits(text, devices):
    if devices is None:
        with pytest.raises(Invalid, match="neither a percentage"):
            rules.parse_waves(text, LIMITS)
    else:
        assert rules.parse_waves(text, LIMITS) == (WaveSize(None, devices),)


def test_waves_are_parsed_and_must_grow():
    assert rules.parse_waves("1%, 10%,500, 100%", LIMITS) == (
        WaveSize(10_000, None), WaveSize(100_000, None), WaveSize(None, 500), WaveSize(1_000_000, None)
    )  # fmt: skip
    for text in ("10%,1%", "5,5", "0%", "101%", "x", "", "1%,", "-1", "1.00001%", "0", "9" * 30, "1e2%", "١%"):
        with pytest.raises(Invalid, match=r"^Waves"):
            rules.parse_waves(text, LIMITS)
    with pytest.raises(Invalid, match="more than 20"):
        rules.parse_waves(",".join(str(n) for n in range(1, 22)), LIMITS)


@given(st.sets(st.integers(0, SCALE - 1), min_size=1, max_size=60), st.integers(1, 80))
def test_a_number_of_devices_reaches_just_so_many(found, number):
    places = sorted(found)
    (threshold,) = rules.thresholds([wave(devices=number)], places, len(places))
    assert sum(rules.wave_of(place, [threshold]) == 1 for place in places) == min(number, len(places))


def test_a_number_that_all_devices_make_up_ends_with_the_last_of_them_and_a_greater_one_takes_any():
    places = [10, 20, 30]
    assert rules.thresholds([wave(devices=3)], places, 3) == (31,)
    assert rules.thresholds([wave(devices=4)], places, 3) == (SCALE,)
    assert rules.thresholds([wave(devices=1), wave(devices=2)], places, 3) == (11, 21)


def test_a_share_is_so_much_of_all_places_and_a_later_wave_never_goes_less_far():
    assert rules.thresholds([wave(percent=1), wave(percent=100)], [10], 1) == (SCALE // 100, SCALE)
    assert rules.thresholds([wave(percent=50), wave(devices=1)], [10, 20], 2) == (SCALE // 2, SCALE // 2)
    assert rules.thresholds([wave(percent=1)], [SCALE - 1], 1) == (SCALE,)
    assert rules.thresholds([wave(percent=1), wave(devices=3)], [], 0) == (SCALE // 100, SCALE)


def test_a_place_at_a_threshold_is_of_the_next_wave():
    assert [rules.wave_of(at, (10, 20)) for at in (0, 9, 10, 19, 20, 99)] == [1, 1, 2, 2, 3, 3]


@given(st.lists(st.integers(0, SCALE - 1), max_size=50, unique=True), st.lists(st.integers(1, 100), min_size=1))
def test_thresholds_never_shrink_and_the_first_wave_has_a_device(found, percents):
    places = sorted(found)
    fixed = rules.thresholds([wave(percent=percent) for percent in percents], places, len(places))
    assert list(fixed) == sorted(fixed)
    assert not places or rules.wave_of(places[0], fixed) == 1


@given(
    st.integers(1, 20_000),
    st.lists(st.tuples(st.one_of(st.integers(0, 700), st.integers(0, 90_000)), st.integers(0, 1000)), max_size=40),
)
def test_no_minute_has_more_starts_than_the_rate(rate, steps):
    one, now = rollout(starts_per_minute=rate), 10_000_000
    starts = []
    for pause, wanted in steps:
        now += pause
        started = min(wanted, rules.allowance(one, 0, now))
        one = replace(one, date_paid=rules.pay(one, started, now))
        starts.append((now, started))
    for begin, _ in starts:
        assert sum(started for at, started in starts if begin <= at < begin + 60_000) <= rate


@pytest.mark.parametrize("rate", [1, 7, 59, 60, 61, 600, 10_000])
def test_the_rate_is_nearly_reached(rate):
    one, started = rollout(starts_per_minute=rate), 0
    for now in range(10_000_000, 10_600_000, 500):
        some = rules.allowance(one, 0, now)
        one = replace(one, date_paid=rules.pay(one, some, now))
        started += some
    assert rate * 10 * 0.95 <= started <= rate * 10


@pytest.mark.parametrize("rate", [1, 7, 59, 60, 61, 600, 10_000])
def test_the_next_start_is_paid_for_when_it_says_and_not_a_millisecond_sooner(rate):
    one = rollout(starts_per_minute=rate, date_paid=10_000_000)
    at = rules.next_start(one)
    assert rules.allowance(one, 0, at) == 1
    assert rules.allowance(one, 0, at - 1) == 0


def test_one_start_and_those_of_a_second_are_saved_up():
    assert rules.allowance(rollout(starts_per_minute=60), 0, 10_000_000) == 1
    assert rules.allowance(rollout(starts_per_minute=600), 0, 10_000_000) == 10
    assert rules.allowance(rollout(starts_per_minute=6100), 0, 10_000_000) == 101


def test_starts_are_charged_from_when_unused_ones_count():
    idle = rollout(starts_per_minute=61)
    assert rules.pay(idle, 1, 10_000_000) == 10_000_000 - 1000
    assert rules.pay(idle, 2, 10_000_000) == 10_000_000
    assert rules.pay(replace(idle, date_paid=10_000_000), 3, 10_000_000) == 10_003_000
    assert rules.pay(rollout(starts_per_minute=7, date_paid=10_000_000), 1, 10_000_000) == 10_008_715
    assert rules.pay(rollout(date_paid=5), 100, 10_000_000) == 5


def test_nothing_is_started_by_a_clock_that_is_behind_the_one_that_paid():
    one = rollout(starts_per_minute=60, date_paid=100_000)
    assert rules.allowance(one, 0, 95_000) == 0
    assert rules.allowance(replace(one, concurrent_max=5), 0, 95_000) == 0


def test_the_room_for_open_updates_is_what_is_left():
    assert rules.allowance(rollout(), 100, 0) is None
    assert rules.allowance(rollout(concurrent_max=5), 3, 0) == 2
    assert rules.allowance(rollout(concurrent_max=5), 9, 0) == 0
    assert rules.allowance(rollout(concurrent_max=5), 5, 0) == 0
    assert rules.allowance(rollout(concurrent_max=5, starts_per_minute=60), 0, 10_000) == 1
    assert rules.allowance(rollout(concurrent_max=5, starts_per_minute=6000), 2, 10_000_000) == 3


def test_a_number_that_may_be_a_share_or_a_percentage_is_refused():
    for text in ("0.05", " 0.95 "):
        with pytest.raises(Invalid, match="with %"):
            rules.parse_ppm(text, "Limit")
    assert rules.parse_ppm("0.05%", "Limit") == 500
    assert rules.parse_ppm("5", "Limit") == rules.parse_ppm("5 %", "Limit") == 50_000
    assert rules.parse_ppm("0", "Limit") == 0
    assert rules.parse_ppm("0.05 % ", "Limit") == 500
    assert rules.parse_ppm("0%", "Limit") == 0


@pytest.mark.parametrize(
    ("text", "ppm"),
    [
        ("100%", 1_000_000),
        ("99.9999%", 999_999),
        ("0.0001%", 1),
        ("1.00000000%", 10_000),
        ("000000000012%", 120_000),
        ("0000000000012%", None),
        ("100.0001%", None),
        ("0.00001%", None),
        ("1.5.5%", None),
        ("1e1%", None),
        ("5%%", None),
        ("", None),
        (".", None),
        ("\N{SUPERSCRIPT TWO}%", None),
        ("\N{ARABIC-INDIC DIGIT ONE}%", None),
    ],
)
def test_a_percentage_is_from_none_to_all_in_millionths(text, ppm):
    if ppm is None:
        with pytest.raises(Invalid, match=r"^Limit: .*(is not a percentage|is not between 0% and 100%)"):
            rules.parse_ppm(text, "Limit")
    else:
        assert rules.parse_ppm(text, "Limit") == ppm


def test_what_cannot_be_parsed_is_shown_up_to_40_characters():
    for text in ("x" * 50, "x" * 50 + "%", "0." + "1" * 50, "101" + "0" * 9 + "%", "101" + " " * 50 + "%"):
        with pytest.raises(Invalid) as refused:
            rules.parse_ppm(text, "Limit")
        assert f"{text[:40]!a}" in refused.value.detail
    with pytest.raises(Invalid, match="^Waves: 'x%' is not a percentage"):
        rules.parse_waves("x%", LIMITS)
    with pytest.raises(Invalid, match="'x{40}' is neither"):
        rules.parse_waves("x" * 50, LIMITS)


CAN = {
    "draft": ["start", "abort"],
    "scheduled": ["start", "abort"],
    "starting": ["abort"],
    "running": ["pause", "abort", "retry", "release"],
    "paused": ["resume", "abort", "retry"],
    "stopped": [],
    "aborted": [],
    "completed": ["retry"],
}


@pytest.mark.parametrize("state", CAN)
@pytest.mark.parametrize("action", rules.ACTIONS)
def test_what_cannot_be_done_says_what_can(action, state):
    if action in CAN[state]:
        rules.check_action(action, state)
        return
    with pytest.raises(Conflict) as refused:
        rules.check_action(action, state)
    assert f"is {state} cannot {action}" in refused.value.detail
    if CAN[state]:
        assert f"(possible: {', '.join(CAN[state])})" in refused.value.detail
    else:
        assert "possible:" not in refused.value.detail


@pytest.mark.parametrize("state", CAN)
def test_a_rollout_is_unfinished_from_its_schedule_to_its_end(state):
    assert rules.is_unfinished(state) is (state in {"scheduled", "starting", "running", "paused"})


def test_counts_of_all_waves_are_added_up_and_none_is_left_out():
    found = rules.total({1: {"succeeded": 3, "failed": 1}, 2: {"succeeded": 4}})
    assert (found["succeeded"], found["failed"], found["silent"]) == (7, 1, 0)
    assert set(found) == set(STATES)
    assert set(rules.total({}).values()) == {0}


@pytest.mark.parametrize("state", ["draft", "scheduled", "starting", "running", "paused", "stopped", "completed"])
def test_only_what_is_not_under_way_is_removed(state):
    if state in {"draft", "stopped", "completed"}:
        rules.check_removal(rollout(state=state), 0)
    else:
        with pytest.raises(Conflict, match="abort it"):
            rules.check_removal(rollout(state=state), 0)


def test_what_is_canceling_yet_or_to_be_taken_back_is_not_removed():
    began = rollout(state="aborted", canceling=True, date_started=1)
    with pytest.raises(Conflict, match="being canceled"):
        rules.check_removal(began, 0)
    rules.check_removal(replace(began, date_started=None), 0)
    with pytest.raises(Conflict, match="roll this one back"):
        rules.check_removal(replace(began, canceling=False), 1)
    rules.check_removal(replace(began, canceling=False), 0)
    with pytest.raises(Conflict, match="roll this one back"):
        rules.check_kept(1)


DAY_S = 24 * 3600


@pytest.mark.parametrize(
    ("known", "wave", "made", "by_operator", "found"),
    [
        ({"known_by": "none"}, 1, 9000, False, 0),
        ({"known_by": "date", "known_since": 500}, 1, 500, False, 0),
        ({"known_by": "date", "known_since": 500}, 2, 501, True, None),
        ({"known_by": "date", "known_since": 500}, 1, 499, False, 0),
        ({"known_by": "date", "known_since": None}, 1, 1, False, None),
        ({"known_by": "date", "known_since": None}, 1, 0, False, 0),
        ({"known_by": "start", "date_started": None}, 1, 1, False, None),
        ({"known_by": "start", "date_started": None}, 1, 0, False, 0),
        ({"known_by": "start"}, 2, 3001 - DAY_S * 1000, False, 3001),
        ({"known_by": "start"}, 1, 2000, False, 0),
        ({"known_by": "start"}, 1, 2001, True, None),
        ({"known_by": "start"}, 2, 2001, True, 0),
        ({"known_by": "start"}, 2, 2001, False, 2001 + DAY_S * 1000),
        ({"known_by": "start"}, 2, 3000 - DAY_S * 1000, False, 0),
    ],
)
def test_a_device_counts_as_evidence_if_it_was_known_before(known, wave, made, by_operator, found):
    origin = rules.Origin(made, by_operator)
    begun = rollout(**{"date_started": 2000, **known})
    assert rules.evidence_from(begun, wave, 2, origin, after_s=DAY_S, now=3000) == found


def test_counts_are_added_up_by_wave_and_what_is_no_evidence_is_told():
    rows = [
        CountRow(1, "succeeded", True, 5, 2),
        CountRow(1, "succeeded", False, 40, 0),
        CountRow(2, "failed", True, 1, 1),
        CountRow(2, "silent", False, 2, 0),
        CountRow(2, "offline", False, 3, 0),
        CountRow(2, "updating", False, 7, 0),
    ]
    found = Counted.of(rows)
    assert found.counts == {1: {"succeeded": 45}, 2: {"failed": 1, "silent": 2, "offline": 3, "updating": 7}}
    assert found.evidence == Evidence(5, 1, 0, 3, uncounted=42)
    assert found.removed == 3


def test_only_a_rollout_that_was_stopped_or_aborted_was_given_up():
    states = ("draft", "scheduled", "starting", "running", "paused", "stopped", "aborted", "completed")
    assert [state for state in states if rules.gave_up(state)] == ["stopped", "aborted"]
