"""Entity tags and byte ranges, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import RangeNotSatisfiable
from fleetvisor.web.conditional import Range, matches, parse_range, range_applies

TAG = b'"abc"'


@pytest.mark.parametrize(
    "header",
    [
        b'"abc"',
        b'W/"abc"',
        b"*",
        b" * ",
        b'"x", "abc"',
        b'"x","abc"',
        b'W/"x",\tW/"abc" ',
        b'"abc", "x"',
        b'"abc",',
        b', "abc"',
        b'"a,b", "abc"',
    ],
)
def test_a_matching_tag_is_found(header):
    """Weakly, alone, in a list, with odd but legal spacing, beside a tag that holds a comma."""
    assert matches(header, TAG)
    assert matches(header, b'W/"abc"')


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b'"x"',
        b"abc",
        b'"abc',
        b'abc"',
        b'w/"abc"',
        b'"ABC"',
        b'"x" "abc"',
        b'"abc" x',
        b"**",
        b"W/",
        b'"x", *',
        b'""',
    ],
)
def test_what_does_not_match_is_answered_whole(header):
    assert not matches(header, TAG)


@given(st.binary(max_size=60))
def test_no_header_is_a_fault(header):
    assert matches(header, TAG) in {True, False}
    assert range_applies(header, TAG) in {True, False}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"bytes=0-0", (0, 1)),
        (b"bytes=0-", (0, 100)),
        (b"bytes=10-19", (10, 20)),
        (b"bytes=99-", (99, 100)),
        (b"bytes=50-500", (50, 100)),
        (b"bytes=-1", (99, 100)),
        (b"bytes=-500", (0, 100)),
        (b"BYTES = 1 - 2", (1, 3)),
        (b"bytes=0-99999999999999999999999", (0, 100)),
    ],
)
def test_one_range_is_cut_to_the_content(header, expected):
    assert parse_range(header, 100) == Range(*expected)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=5-4",
        b"bytes=0-1,3-4",
        b"lines=0-1",
        b"bytes=0--1",
        b"bytes=0x1-2",
    ],
)
def test_what_is_no_single_range_gives_the_whole(header):
    assert parse_range(header, 100) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [(b"bytes=100-", 100), (b"bytes=100-200", 100), (b"bytes=-0", 100), (b"bytes=0-", 0), (b"bytes=-5", 0)],
)
def test_a_range_outside_is_refused(header, size):
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, size)


@given(st.integers(0, 10**20), st.integers(0, 10**20), st.integers(0, 1000))
def test_a_range_never_leaves_the_content(first, last, size):
    try:
        found = parse_range(b"bytes=%d-%d" % (first, last), size)
    except RangeNotSatisfiable:
        assert first >= size
        return
    if found is None:
        assert last < first
    else:
        assert 0 <= found.start < found.end <= size
        assert found == (first, min(last + 1, size))


def test_a_number_of_any_length_is_above_every_size():
    for digits in (18, 19, 5000):
        assert parse_range(b"bytes=-" + b"9" * digits, 10**9) == Range(0, 10**9)
        assert parse_range(b"bytes=7-" + b"9" * digits, 10**9) == Range(7, 10**9)
        with pytest.raises(RangeNotSatisfiable):
            parse_range(b"bytes=" + b"9" * digits + b"-", 10**9)


def test_if_range_compares_strongly():
    assert range_applies(None, TAG)
    assert range_applies(TAG, TAG)
    assert not range_applies(b'"other"', TAG)
    assert not range_applies(b'W/"abc"', b'W/"abc"')
    assert not range_applies(b"Wed, 21 Oct 2015 07:28:00 GMT", TAG)
