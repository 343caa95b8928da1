"""Durations as people write them."""

import pytest

from fleetvisor.cli.durations import parse_seconds
from fleetvisor.cli.options import Usage
from fleetvisor.ground.durations import find_seconds, spell


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86_400),
        ("45", 45),
        ("0", 0),
        ("0s", 0),
        (" 5m ", 300),
        ("2w", 1_209_600),
    ],
)
def test_a_unit_multiplies(text, seconds):
    assert parse_seconds(text, "--soak") == seconds


def test_nothing_stays_nothing():
    assert parse_seconds(None, "--soak") is None


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5h", "1h30m", "5 m", "٣m", "1" * 10, "m", "1S"])
def test_anything_else_is_refused_with_the_option_and_the_ways_there_are(text):
    with pytest.raises(Usage) as caught:
        parse_seconds(text, "--soak")
    assert caught.value.detail.startswith("--soak: ")
    assert "10m" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (1, "1s"), (60, "1m"), (90, "90s"), (5400, "90m"), (7200, "2h"), (172_800, "2d"), (604_800, "1w")],
)
def test_seconds_are_spelt_shortly_and_read_back_the_same(seconds, text):
    assert spell(seconds) == text
    assert parse_seconds(text, "--soak") == find_seconds(text) == seconds
