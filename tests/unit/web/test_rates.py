"""Counts and buckets: right by the clock, and bounded in memory."""

import pytest

from fleetvisor.web.rates import Buckets, RateLimited, Windows


class Clock:
    def __init__(self):
        self.at = 1000.0

    def monotonic(self):
        return self.at


def test_a_count_lasts_a_minute_from_its_first():
    clock = Clock()
    windows = Windows(clock)
    assert windows.count("a") == (1, 60)
    clock.at += 59
    assert windows.count("a") == (2, 1)
    assert windows.count("b") == (1, 60)
    clock.at += 1
    assert windows.count("a") == (1, 60)


def test_counts_that_are_over_and_the_oldest_ones_make_room():
    clock = Clock()
    windows = Windows(clock, rows_max=100)
    for number in range(1000):
        windows.count(number)
        assert len(windows) <= 100
    assert windows.count(999)[0] == 2
    assert windows.count(0)[0] == 1
    clock.at += 61
    windows.count("new")
    assert len(windows) == 1


def test_a_bucket_lets_its_burst_through_and_then_its_rate():
    clock = Clock()
    buckets = Buckets(clock, per_s=10, burst=3)
    for _ in range(3):
        buckets.take("a", "x")
    with pytest.raises(RateLimited) as refused:
        buckets.take("a", "x")
    assert refused.value.retry_after_s == 1
    buckets.take("b", "x")
    clock.at += 0.1
    buckets.take("a", "x")
    with pytest.raises(RateLimited):
        buckets.take("a", "x")
    clock.at += 100
    for _ in range(3):
        buckets.take("a", "x")
    with pytest.raises(RateLimited):
        buckets.take("a", "x")


def test_a_rate_of_nothing_is_no_limit_and_memory_is_bounded():
    buckets = Buckets(Clock(), per_s=0, burst=1)
    for _ in range(100):
        buckets.take("a", "x")
    few = Buckets(Clock(), per_s=1, burst=1, rows_max=10)
    for number in range(100):
        few.take(str(number), "x")
    assert len(few) <= 10
