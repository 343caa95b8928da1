"""The guard: its published figures, what it says in words, and how often it errs, measured by simulation."""

import random
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.features.rollouts.guard import (
    CODES,
    HELD,
    Evidence,
    Progress,
    bounds,
    decide,
    is_proven,
    percent,
    seen,
)
from fleetvisor.protocol.guard_settings import GuardSettings

OPEN = Progress(soaked=False, settled=False, rested=False)
SOAKED = Progress(soaked=True, settled=False, rested=False)
OVER = Progress(soaked=True, settled=True, rested=True)


def guard(limit, **more):
    return GuardSettings(limit=limit, minimum_sample=1, **more)


@pytest.mark.parametrize(("limit", "devices"), [(0.10, 69), (0.05, 158), (0.02, 451)])
def test_without_a_failure_so_many_devices_prove_a_limit(limit, devices):
    assert bounds(Evidence(devices, 0, 0), 0.95).upper < limit
    assert bounds(Evidence(devices - 1, 0, 0), 0.95).upper >= limit
    assert decide(Evidence(devices, 0, 0), SOAKED, guard(limit)).code == "proven"
    assert decide(Evidence(devices - 1, 0, 0), OVER, guard(limit)).code == "unproven_within"


counts = st.integers(0, 300)


@given(counts, counts, counts)
def test_the_observed_rate_lies_within_the_bounds(succeeded, failed, silent):
    evidence = Evidence(succeeded, failed, silent)
    between = bounds(evidence, 0.95)
    assert 0 <= between.lower <= between.upper <= 1
    if evidence.total:
        assert between.lower <= evidence.bad / evidence.total <= between.upper


@given(counts, counts, counts)
def test_a_silent_device_counts_as_a_failed_one(succeeded, failed, silent):
    assert bounds(Evidence(succeeded, failed, silent), 0.95) == bounds(Evidence(succeeded, failed + silent, 0), 0.95)


@given(counts, counts, st.floats(0.5, 0.99))
def test_more_confidence_means_wider_bounds(succeeded, failed, confidence):
    narrow = bounds(Evidence(succeeded, failed, 0), confidence)
    wide = bounds(Evidence(succeeded, failed, 0), (confidence + 1) / 2)
    assert wide.lower <= narrow.lower + 1e-9
    assert wide.upper >= narrow.upper - 1e-9


@given(
    counts, counts, counts, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["hold", "stop", "release"])
)
def test_every_decision_is_of_a_documented_code_and_does_one_thing(good, bad, silent, soaked, settled, proof, unproven):
    progress = Progress(soaked, settled, soaked and settled)
    settings = guard(0.05, require_proof=proof, on_unproven=unproven)
    decision = decide(Evidence(good, bad, silent), progress, settings)
    assert decision.code in CODES
    assert not (decision.proceeds and decision.stops)
    assert decision.proceeds or decision.verdict != "release"
    assert decision.stops or decision.verdict != "stop"
    if not settled and not soaked:
        assert not decision.proceeds
    if proof and decision.proceeds:
        assert decision.verdict == "release" or bad + silent > 0.05 * (good + bad + silent)


def test_an_unproven_wave_over_the_limit_does_what_the_setting_says():
    few = Evidence(9, 1, 0)
    assert [decide(few, OVER, guard(0.05, on_unproven=choice)).code for choice in ("hold", "stop", "release")] == [
        "unproven_over_hold",
        "unproven_over_stop",
        "unproven_over_release",
    ]
    assert decide(few, OVER, guard(0.05, on_unproven="stop")).stops
    assert not decide(few, OVER, guard(0.05)).proceeds


def test_an_unproven_wave_within_the_limit_is_held_only_where_proof_is_required():
    assert decide(Evidence(10, 0, 0), OVER, guard(0.05)).proceeds
    held = decide(Evidence(10, 0, 0), OVER, guard(0.05, require_proof=True))
    assert (held.code, held.proceeds) == ("proof_required", False)


def test_a_wave_of_devices_that_are_all_too_new_is_held_unless_it_is_the_last():
    new = Evidence(0, 0, 0, uncounted=30)
    held = decide(new, OVER, guard(0.05, on_unproven="release"))
    assert (held.code, held.proceeds, held.stops) == ("only_new", False, False)
    assert held.sentence.startswith("No device that counts has succeeded, failed or fallen silent. 30 more are too new")
    last = Progress(soaked=True, settled=True, rested=True, last=True)
    assert decide(new, last, guard(0.05)).proceeds
    assert decide(Evidence(1, 0, 0, uncounted=30), OVER, guard(0.05)).code == "unproven_within"


def test_nothing_is_said_by_the_bounds_before_the_least_sample():
    settings = GuardSettings(limit=0.02, minimum_sample=5)
    assert decide(Evidence(0, 4, 0), OPEN, settings).verdict == "hold"
    assert decide(Evidence(0, 5, 0), OPEN, settings).verdict == "stop"


def test_a_wave_is_not_released_before_its_soak_is_over():
    assert decide(Evidence(500, 0, 0), OPEN, guard(0.02)).code == "soaking"
    assert decide(Evidence(10, 0, 0), Progress(soaked=True, settled=True, rested=False), guard(0.02)).code == "soaking"


def test_the_sentence_says_what_was_seen_and_what_was_not_shown():
    decision = decide(Evidence(9, 1, 1), OVER, guard(0.05))
    assert decision.sentence.startswith(
        "2 of 11 devices failed, 1 of them silent. The observed rate is over the limit of 5 %"
    )
    assert "proves nothing" in decision.sentence


def test_a_sentence_says_that_too_few_devices_were_decided_for_the_bounds_to_count():
    decision = decide(Evidence(0, 4, 0), OVER, GuardSettings(limit=0.02, minimum_sample=5))
    assert decision.code == "unproven_over_hold"
    assert decision.sentence.startswith(
        "4 of 4 devices failed; the bounds apply from 5 devices on. The observed rate is over"
    )


def test_a_sentence_tells_of_devices_that_did_not_come_and_of_none_that_did():
    assert decide(Evidence(3, 0, 0, 7), OVER, guard(0.05)).sentence.startswith(
        "0 of 3 devices failed. 7 more did not fetch the update. The observed rate is within"
    )
    assert decide(Evidence(0, 0, 0), OVER, guard(0.05)).sentence.startswith(
        "No device has succeeded, failed or fallen silent. The observed rate is within"
    )


@pytest.mark.parametrize(
    ("evidence", "settings", "words"),
    [
        (Evidence(451, 0, 0), guard(0.02), "under the limit of 2 %: it is at most 1.9996 % at 95 % confidence"),
        (Evidence(0, 9, 0), guard(0.02, confidence=0.9999), "at 99.99 % confidence"),
        (Evidence(100, 0, 0), guard(0.999999, confidence=0.5), "under the limit of 99.9999 %"),
        (Evidence(100_000, 3, 0), guard(0.000001), "rate is between 0.0000"),
    ],
)
def test_no_number_of_a_sentence_is_rounded_to_another_statement(evidence, settings, words):
    decision = decide(evidence, SOAKED, settings)
    assert words in decision.sentence


def test_a_wave_whose_observed_rate_is_the_limit_is_not_over_it():
    """Among the limits of whole percents are some that times 100 are less, as numbers with a point go."""
    for limit in range(1, 100):
        settings = guard(limit / 100)
        assert decide(Evidence(100 - limit, limit, 0), OVER, settings).code == "unproven_within"


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999, 0.999999])
def test_there_are_bounds_for_every_count_however_large(confidence):
    for total in (2, 10, 1000, 100_000, 10_000_000):
        for bad in {0, 1, 2, total // 2, total - 1, total}:
            between = bounds(Evidence(total - bad, bad, 0), confidence)
            assert 0 <= between.lower <= bad / total <= between.upper <= 1
            mirrored = bounds(Evidence(bad, total - bad, 0), confidence)
            assert mirrored.upper == pytest.approx(1 - between.lower, abs=1e-11)


def test_the_bounds_are_where_the_likelihood_is_that_much_less_than_the_mixtures():
    """By exact fractions: the mixture of counts is 1 / ((n + 1) (n over k)), and 20 times the likelihood at a bound."""
    for total, bad in ((1, 0), (1, 1), (10, 3), (69, 0), (158, 2), (300, 150)):
        mixture = Fraction(1, (total + 1) * comb(total, bad))
        between = bounds(Evidence(total - bad, bad, 0), 0.95)
        for edge in {between.lower, between.upper} - {0.0, 1.0}:
            rate = Fraction(edge)
            assert float(mixture / (rate**bad * (1 - rate) ** (total - bad))) == pytest.approx(20, rel=1e-6)


def test_the_last_wave_waits_for_its_last_device_although_it_is_proven():
    last = Progress(soaked=True, settled=False, rested=False, last=True)
    assert decide(Evidence(500, 0, 0), last, guard(0.02)).code == "deciding"
    settled = Progress(soaked=True, settled=True, rested=False, last=True)
    assert decide(Evidence(500, 0, 0), settled, guard(0.02)).code == "soaking"
    rested = Progress(soaked=True, settled=True, rested=True, last=True)
    assert decide(Evidence(500, 0, 0), rested, guard(0.02)).code == "proven"


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.10])
def test_a_release_whose_rate_is_the_limit_is_stopped_no_oftener_than_the_confidence_says(rate):
    """Looked at after every report at first, then after every tenth: 300 releases of 400 devices each."""
    assert share_decided(rate, rate, "stop") <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.10])
def test_a_release_that_fails_oftener_is_released_by_proof_no_oftener_than_the_confidence_says(rate):
    assert share_decided(rate * 1.01, rate, "release") <= 0.05


def share_decided(rate, limit, verdict, worlds=300, devices=400):
    """Give the share of simulated releases about which the guard ever says ``verdict``, by proof."""
    rng, settings, hits = random.Random(f"{rate} {verdict}"), guard(limit), 0
    for _ in range(worlds):
        failed = 0
        for number in range(1, devices + 1):
            failed += rng.random() < rate
            if (number % 10 == 0 or number < 40) and decide(
                Evidence(number - failed, failed, 0), SOAKED, settings
            ).verdict == verdict:
                hits += 1
                break
    return hits / worlds


def test_wilsons_interval_looked_at_after_every_report_stops_a_quarter_where_these_bounds_stop_few():
    """The figures of the guards' page: 2,000 releases of 300 devices that fail as often as the limit, 5 %, allows."""
    limit, devices, worlds, rng = 0.05, 300, 2000, random.Random(5)
    ours, wilsons = (
        [
            next(bad for bad in range(total + 2) if bad > total or lower(bad, total) > limit)
            for total in range(devices + 1)
        ]
        for lower in (lambda bad, total: bounds(Evidence(total - bad, bad, 0), 0.95).lower, wilsons_lower)
    )
    stopped = {"ours": 0, "wilson": 0}
    for _ in range(worlds):
        failed, looks = 0, []
        for total in range(1, devices + 1):
            failed += rng.random() < limit
            looks.append((total, failed))
        stopped["ours"] += any(failed >= ours[total] for total, failed in looks[4:])
        stopped["wilson"] += any(failed >= wilsons[total] for total, failed in looks[4:])
    assert stopped["ours"] / worlds < 0.03
    assert 0.2 < stopped["wilson"] / worlds < 0.3


def wilsons_lower(bad, total):
    z = 1.959964
    if total == 0:
        return 0.0
    rate = bad / total
    return (rate + z * z / 2 / total - z * (rate * (1 - rate) / total + z * z / 4 / total**2) ** 0.5) / (
        1 + z * z / total
    )


def test_a_rate_under_a_thousandth_is_told_as_that_and_not_in_digits_that_nobody_knows():
    said = decide(Evidence(100_000, 0, 0), SOAKED, guard(0.05)).sentence
    assert "it is under 0.1 % at 95 % confidence" in said
    said = decide(Evidence(1500, 1, 0), OVER, guard(0.0011)).sentence
    assert "may be from under 0.1 % to 0.854 %" in said
    assert "it is over 99.9 % at" in decide(Evidence(0, 100_000, 0), OPEN, guard(0.5)).sentence


def test_a_bound_beside_a_limit_under_a_thousandth_keeps_its_digits():
    said = decide(Evidence(100_000, 0, 0), SOAKED, guard(0.0005)).sentence
    assert "under the limit of 0.05 %: it is at most 0.0145 %" in said


PROVEN, FAILING, WITHIN, OVER_LIMIT = Evidence(500, 0, 0), Evidence(0, 20, 0), Evidence(10, 0, 0), Evidence(9, 1, 0)


def state(*words):
    return Progress(**{name: name in words for name in ("soaked", "settled", "rested", "last")})


@pytest.mark.parametrize(
    ("evidence", "progress", "settings", "expected"),
    [
        (FAILING, state(), {}, ("stop", "failing", False, True)),
        (FAILING, state("soaked", "settled", "rested", "last"), {}, ("stop", "failing", False, True)),
        (PROVEN, state("soaked"), {}, ("release", "proven", True, False)),
        (PROVEN, state("soaked", "settled", "rested", "last"), {}, ("release", "proven", True, False)),
        (PROVEN, state(), {}, ("hold", "soaking", False, False)),
        (PROVEN, state("settled", "last"), {}, ("hold", "soaking", False, False)),
        (PROVEN, state("soaked", "last"), {}, ("hold", "deciding", False, False)),
        (PROVEN, state("last"), {}, ("hold", "deciding", False, False)),
        (WITHIN, state("soaked"), {}, ("hold", "deciding", False, False)),
        (WITHIN, state("soaked", "settled"), {}, ("hold", "soaking", False, False)),
        (WITHIN, state("soaked", "settled", "rested"), {}, ("unproven", "unproven_within", True, False)),
        (WITHIN, OVER, {"require_proof": True}, ("unproven", "proof_required", False, False)),
        (OVER_LIMIT, OVER, {}, ("unproven", "unproven_over_hold", False, False)),
        (OVER_LIMIT, OVER, {"require_proof": True}, ("unproven", "unproven_over_hold", False, False)),
        (OVER_LIMIT, OVER, {"on_unproven": "stop"}, ("unproven", "unproven_over_stop", False, True)),
        (OVER_LIMIT, OVER, {"on_unproven": "release"}, ("unproven", "unproven_over_release", True, False)),
        (Evidence(0, 0, 0, uncounted=3), OVER, {}, ("unproven", "only_new", False, False)),
        (Evidence(0, 0, 0), OVER, {}, ("unproven", "unproven_within", True, False)),
    ],
)
def test_what_was_seen_and_where_the_wave_stands_decide_what_happens_to_it(evidence, progress, settings, expected):
    found = decide(evidence, progress, guard(0.05, **settings))
    assert (found.verdict, found.code, found.proceeds, found.stops) == expected
    assert (found.evidence, found.bounds) == (evidence, bounds(evidence, 0.95))
    waits_for_an_operator = found.verdict == "unproven" and not found.proceeds and not found.stops
    assert (found.code in HELD) is waits_for_an_operator


def test_a_rate_is_proven_to_be_under_the_limit_from_the_least_sample_on():
    assert is_proven(PROVEN, guard(0.05))
    assert not is_proven(WITHIN, guard(0.05))
    assert is_proven(PROVEN, GuardSettings(limit=0.05, minimum_sample=500))
    assert not is_proven(PROVEN, GuardSettings(limit=0.05, minimum_sample=501))
    assert decide(PROVEN, SOAKED, GuardSettings(limit=0.05, minimum_sample=501)).code == "deciding"


def test_before_any_device_is_decided_the_rate_may_be_anything():
    between = bounds(Evidence(0, 0, 0, offline=7, uncounted=9), 0.95)
    assert (between.lower, between.upper) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("rate", "digits", "text"),
    [
        (0.0, 3, "0 %"),
        (1.0, 3, "100 %"),
        (0.5, 3, "50 %"),
        (0.1, 3, "10 %"),
        (0.05, 3, "5 %"),
        (0.123456, 3, "12.3 %"),
        (0.0123456, 3, "1.23 %"),
        (0.00123456, 3, "0.123 %"),
        (0.876543, 3, "87.7 %"),
        (0.9876543, 3, "98.77 %"),
        (0.99876543, 3, "99.877 %"),
        (0.123456, 1, "12 %"),
        (0.123456, 2, "12 %"),
        (0.9123456, 2, "91.2 %"),
        (0.123456789123, 9, "12.3456789 %"),
        (0.000000000012, 9, "0.000000001 %"),
        (0.99, 3, "99 %"),
        (0.009, 3, "0.9 %"),
    ],
)
def test_a_rate_is_shown_with_so_many_digits_of_it_or_of_what_it_lacks_to_all(rate, digits, text):
    assert percent(rate, digits) == text
    assert digits != 3 or percent(rate) == text


def test_a_bound_that_is_none_or_all_is_said_to_be_that():
    assert "between 0 % and" in decide(Evidence(5, 0, 0), OPEN, guard(0.05)).sentence
    assert "and 100 % (limit 50 %)" in decide(Evidence(0, 2, 0), OPEN, guard(0.5)).sentence
    assert "between 0 % and 100 %" in decide(Evidence(0, 0, 0), OPEN, guard(0.001)).sentence


def test_a_limit_of_just_a_thousandth_or_all_but_one_is_told_from_what_is_beyond_it():
    assert "limit of 0.1 %: it is under 0.1 %" in decide(Evidence(20_000, 0, 0), SOAKED, guard(0.001)).sentence
    assert "limit of 99.9 %: it is over 99.9 %" in decide(Evidence(0, 20_000, 0), OPEN, guard(0.999)).sentence


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (Evidence(1, 0, 0), "0 of 1 device failed."),
        (Evidence(0, 1, 0), "1 of 1 device failed."),
        (Evidence(1, 0, 1), "1 of 2 devices failed, 1 of them silent."),
        (Evidence(2, 0, 0, 0, 0), "0 of 2 devices failed."),
        (Evidence(2, 0, 0, 3, 4), "0 of 2 devices failed. 4 more are too new to count as evidence. 3 more did not"),
        (Evidence(0, 0, 0, 3, 0), "No device has succeeded, failed or fallen silent. 3 more did not"),
        (Evidence(0, 0, 0, 0, 4), "No device that counts has succeeded, failed or fallen silent. 4 more are too new"),
    ],
)
def test_a_sentence_counts_the_devices(evidence, words):
    said = seen(evidence, guard(0.05))
    assert said.startswith(words)
    assert said.count(" more ") == bool(evidence.offline) + bool(evidence.uncounted)
    assert said.endswith(".")


def test_a_sentence_says_from_how_many_devices_on_the_bounds_apply_until_there_are_so_many():
    settings = GuardSettings(limit=0.05, minimum_sample=5)
    assert "5 devices" in seen(Evidence(4, 0, 0), settings)
    assert seen(Evidence(5, 0, 0), settings) == "0 of 5 devices failed."
