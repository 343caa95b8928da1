"""Drafts: what a new rollout is before anybody starts it, and what may be changed of it."""

from fleetvisor.features.rollouts.model import Draft, WaveSize
from fleetvisor.features.rollouts.service import Pace, _drafted
from fleetvisor.protocol.guard_settings import GuardSettings


def test_a_draft_has_opened_no_wave_and_is_not_started():
    guard = GuardSettings(limit=0.01, soak=2, silent_after=3, offline_after=4, on_unproven="stop", require_proof=True)
    draft = Draft("release", "v2", None, "site=graz", "spring", (WaveSize(1, None),), guard, 7, 8)
    made = _drafted("RO1", "AC1", draft, "KA1", None, 5)
    assert (made.state, made.wave, made.version, made.date_started, made.date_ended) == ("draft", 0, 0, None, None)
    assert made.guard == guard
    assert (made.concurrent_max, made.starts_per_minute, made.selector) == (7, 8, "site=graz")


def test_a_pace_that_says_nothing_is_no_change():
    assert Pace() == Pace(None, None)
    assert Pace(concurrent_max=0) != Pace()
