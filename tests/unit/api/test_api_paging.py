"""Page tokens: made here, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.api.paging import ListName, envelope, parse_paging, render_token
from fleetvisor.ground.errors import Invalid, InvalidPageToken
from fleetvisor.ground.limits import Limits
from fleetvisor.ground.pages import Cursor, Page, PageRequest

NAME = ListName("/v1/Devices", "AC1", "devices", (int, str))
LIMITS = Limits()

keys = st.tuples(
    st.integers(-(2**60), 2**60),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100),
)


@given(keys, st.booleans())
def test_a_token_gives_its_cursor_back(key, forward):
    cursor = Cursor(key, forward)
    asked = parse_paging({"PageToken": (render_token(cursor, NAME),)}, NAME, LIMITS)
    assert asked.request == PageRequest(50, cursor)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_what_was_not_made_here_is_refused(token):
    if token:
        with pytest.raises(InvalidPageToken):
            parse_paging({"PageToken": (token,)}, NAME, LIMITS)


@given(keys, st.integers(0, 500), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_letter_is_refused_or_leads_elsewhere_in_the_same_list(key, place, letter):
    """A token is a place, not a permission: what still parses is a cursor of this list and nothing else."""
    token = render_token(Cursor(key), NAME)
    changed = token[: place % len(token)] + letter + token[place % len(token) + 1 :]
    try:
        asked = parse_paging({"PageToken": (changed,)}, NAME, LIMITS)
    except InvalidPageToken:
        return
    assert asked.request.cursor is not None
    assert render_token(asked.request.cursor, NAME) == changed
    assert [type(part) for part in asked.request.cursor.key] == [int, str]


@pytest.mark.parametrize(
    "other",
    [
        NAME._replace(path="/v1/Apps"),
        NAME._replace(owner="AC2"),
        NAME._replace(kinds=(str,)),
        NAME._replace(kinds=(int, int)),
    ],
)
def test_a_token_belongs_to_one_list(other):
    with pytest.raises(InvalidPageToken):
        parse_paging({"PageToken": (render_token(Cursor((1, "x")), NAME),)}, other, LIMITS)


def test_the_size_is_clamped_above_and_refused_below():
    assert parse_paging({"PageSize": ("5000",)}, NAME, LIMITS).request.size == 1000
    assert parse_paging({"PageSize": ("9" * 5000,)}, NAME, LIMITS).request.size == 1000
    for size in ("0", "-1", "x", ""):
        with pytest.raises(Invalid):
            parse_paging({"PageSize": (size,)}, NAME, LIMITS)


def test_the_envelope_leads_to_both_neighbours():
    asked = parse_paging({"PageSize": ("2",), "Page": ("3",)}, NAME, LIMITS)
    page = Page(("a", "b"), Cursor((1, "b")), Cursor((2, "a"), forward=False))
    body = envelope(page, ["a", "b"], asked, NAME, "https://h")
    meta = body["meta"]
    assert body["devices"] == ["a", "b"]
    assert meta.first_page_url == "https://h/v1/Devices?PageSize=2&Page=0"
    assert meta.url == "https://h/v1/Devices?PageSize=2&Page=3"
    assert meta.next_page_url.startswith("https://h/v1/Devices?PageSize=2&Page=4&PageToken=")
    assert meta.previous_page_url.startswith("https://h/v1/Devices?PageSize=2&Page=2&PageToken=")
