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


def test_the_rest_of_a_minute_is_in_whole_seconds_and_at_least_one():
    clock = Clock()
    windows = Windows(clock)
    windows.count("a")
    for later, left in ((10.0, 50), (20.4, 30), (29.5, 1)):
        clock.at += later
        assert windows.count("a")[1] == left
    clock.at += 0.2
    assert windows.count("a") == (1, 60)


def test_a_count_that_begins_anew_is_the_youngest_and_leaves_last():
    clock = Clock()
    windows = Windows(clock, rows_max=2)
    windows.count("a")
    clock.at += 30
    windows.count("b")
    clock.at += 30
    windows.count("a")
    windows.count("c")
    assert [windows.count(key)[0] for key in ("a", "c")] == [2, 2]
    assert len(windows) == 2
    assert windows.count("b")[0] == 1


def test_the_count_that_began_first_leaves_first_however_high_it_is():
    clock = Clock()
    windows = Windows(clock, rows_max=2)
    for key in ("a", "b", "a", "c"):
        clock.at += 1
        windows.count(key)
    assert windows.count("b")[0] == 2
    assert windows.count("a")[0] == 1


def test_counts_that_are_over_and_the_oldest_ones_make_room():
    clock = Clock()
    windows = Windows(clock, rows_max=100)
    for number in range(1000):
        windows.count(number)
        assert len(windows) == min(number + 1, 100)
    assert windows.count(999)[0] == 2
    assert windows.count(0)[0] == 1
    clock.at += 60
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


def headers_of(**rate):
    clock = Clock()
    buckets = Buckets(clock, **rate)
    for _ in range(rate["burst"]):
        buckets.take("a", "An API key")
    clock.at += 1 / 4
    with pytest.raises(RateLimited) as refused:
        for _ in range(rate["burst"]):
            buckets.take("a", "An API key")
    return refused.value


@pytest.mark.parametrize(
    ("per_s", "burst", "policy", "rest"),
    [
        (1, 30, b'"requests";q=30;w=30', b'"requests";r=0;t=1'),
        (2, 5, b'"requests";q=5;w=2', b'"requests";r=0;t=1'),
        (10, 3, b'"requests";q=3;w=1', b'"requests";r=0;t=1'),
    ],
)
def test_a_refusal_says_the_rate_and_when_to_come_again(per_s, burst, policy, rest):
    error = headers_of(per_s=per_s, burst=burst)
    assert error.headers == ((b"ratelimit-policy", policy), (b"ratelimit", rest))
    assert error.retry_after_s == 1
    assert f"An API key may send {per_s} requests per second, and bursts of {burst}" in error.detail


def test_a_burst_of_nothing_still_lets_one_through():
    buckets = Buckets(Clock(), per_s=1, burst=0)
    buckets.take("a", "x")
    with pytest.raises(RateLimited):
        buckets.take("a", "x")


def test_the_bucket_that_was_used_longest_ago_makes_room():
    clock = Clock()
    buckets = Buckets(clock, per_s=1, burst=1, rows_max=2)
    for key in ("a", "b"):
        buckets.take(key, "x")
    with pytest.raises(RateLimited):
        buckets.take("a", "x")
    buckets.take("c", "x")
    assert len(buckets) == 2
    with pytest.raises(RateLimited):
        buckets.take("a", "x")
    buckets.take("b", "x")


def test_what_a_bucket_was_refused_costs_it_nothing():
    clock = Clock()
    buckets = Buckets(clock, per_s=1, burst=1)
    buckets.take("a", "x")
    for _ in range(3):
        clock.at += 0.25
        with pytest.raises(RateLimited):
            buckets.take("a", "x")
    clock.at += 0.25
    buckets.take("a", "x")


def test_a_rate_of_nothing_is_no_limit_and_memory_is_bounded():
    buckets = Buckets(Clock(), per_s=0, burst=1)
    for _ in range(100):
        buckets.take("a", "x")
    few = Buckets(Clock(), per_s=1, burst=1, rows_max=10)
    for number in range(100):
        few.take(str(number), "x")
        assert len(few) == min(number + 1, 10)
    never = Buckets(Clock(), per_s=-1, burst=1)
    for _ in range(3):
        never.take("a", "x")
    assert (len(buckets), len(never)) == (0, 0)
