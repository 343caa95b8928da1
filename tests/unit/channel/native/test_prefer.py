"""``Prefer: wait=N`` as RFC 7240 writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.channel.native import prefer
from fleetvisor.channel.native.prefer import wait_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"wait=50", 50),
        (b"WAIT=50", 50),
        (b'wait="50"', 50),
        (b'wait="5\\0"', 50),
        (b"wait = 50", 50),
        (b"  wait=50  ", 50),
        (b"wait=50; foo=bar", 50),
        (b"wait=50 ; ; x", 50),
        (b"respond-async, wait=50", 50),
        (b'foo="a, wait=5", wait=7', 7),
        (b'foo="a\\", wait=5", wait=7', 7),
        (b"foo; wait=5, wait=7", 7),
        (b"return=minimal, , ,wait=9", 9),
        (b"wait=0", 0),
        (b"wait=007", 7),
        (b"wait=123456789", 123_456_789),
        (b"wait=0123456789", 123_456_789),
        (b"wait=1234567890", 999_999_999),
        (b"wait=99999999999999999999999999", 999_999_999),
        (b"wait=00000000000000000000000000000000000005", 5),
        (b"wait=" + b"0" * 5000 + b"5", 5),
    ],
)
def test_wait_is_read_however_the_header_is_written(header, seconds):
    assert wait_of(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b" ",
        b",",
        b"wait",
        b"wait=",
        b'wait=""',
        b"wait=-5",
        b"wait=5.5",
        b"wait=five",
        b"wait=5s",
        b"wait=\xb2",
        b'wait="\xb2"',
    ]
    + [b"wait=5 6", b'wait="5', b"awaits=5", b"wait =x, other", b"=5", b"wait;x=5", b"\xff, wait=5"],
)
def test_an_invalid_wait_is_an_ignored_one(header):
    assert wait_of(header) is None


@pytest.mark.parametrize(("header", "seconds"), [(b"wait=5, wait=9", 5), (b"wait=x, wait=9", None)])
def test_of_two_waits_only_the_first_is_considered(header, seconds):
    """RFC 7240, section 2: if a preference is given more than once, only the first instance counts."""
    assert wait_of(header) == seconds


def test_of_a_hundred_preferences_the_last_one_is_read_and_of_more_none():
    assert wait_of(b"a," * 99 + b"wait=5") == 5
    assert wait_of(b"a," * 100 + b"wait=5") is None


def test_only_headers_of_up_to_64_bytes_are_remembered():
    """A device repeats its short header with each poll; long ones would fill the memory."""
    prefer._remembered.cache_clear()
    for size, kept in ((64, 1), (65, 1), (1000, 1)):
        assert wait_of(b"wait=5".ljust(size)) == 5
        assert prefer._remembered.cache_info().currsize == kept


@given(st.binary(max_size=60))
def test_any_bytes_give_seconds_or_nothing(header):
    seconds = wait_of(header)
    assert seconds is None or 0 <= seconds < 10**9


HOSTILE = {
    "token": b"a" * 16000,
    "equals": b"a=" * 8000,
    "quotes": b'"' * 16000,
    "semicolons": b"a;" * 8000,
    "spaces before a wrong byte": b"a" + b" " * 16000 + b"b",
    "an open quote of escapes": b'a="' + b"\\" * 16000,
    "spaces after a semicolon": b"a;" + b" " * 15000 + b"\x00",
    "spaces about semicolons": b"a" + b" ; " * 5000 + b"\x00",
    "parameters": b"a" + b'; b = "c"' * 1700 + b"\x00",
    "commas": b", " * 8000 + b"\x01",
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.timeout(2)
def test_a_long_hostile_header_is_read_in_little_time(header):
    """Headers are bounded to 16 KiB; none of that length may take quadratic time."""
    assert wait_of(header) is None
