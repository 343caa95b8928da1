"""Reading a request: text, bounds, time, and clients that go away."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetvisor.ground.errors import Invalid, TooLarge, Unavailable, UnsupportedMediaType
from fleetvisor.reality import RealClock
from fleetvisor.web.requests import Disconnected, Request, parse_fields, parse_media_type

FORM = (b"content-type", b"application/x-www-form-urlencoded")


def request(*messages, path=b"/", query=b"", headers=(), method="POST", time_s=1.0):
    """A request whose body comes as ``messages`` (bytes: one more piece; the last ends it; others as they are)."""
    queue = [
        {"type": "http.request", "body": piece, "more_body": place < len(messages) - 1}
        if isinstance(piece, bytes)
        else piece
        for place, piece in enumerate(messages or (b"",))
    ]

    async def receive():
        if not queue:
            await asyncio.Event().wait()
        return queue.pop(0)

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "raw_path": path,
        "query_string": query,
        "headers": list(headers),
    }
    return Request(scope, receive, clock=RealClock(), time_s=time_s)


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        (b"/", ("",)),
        (b"/v1/Devices", ("v1", "Devices")),
        (b"/v1/Devices/", ("v1", "Devices", "")),
        (b"/a%2Fb/c", ("a/b", "c")),
        (b"/a%252Fb", ("a%2Fb",)),
        (b"/a+b%20c", ("a+b c",)),
        (b"/K%C3%BCche", ("Küche",)),
        ("/Küche".encode(), ("Küche",)),
        (b"/%zz%4", ("%zz%4",)),
        (b"/a?b=c", ("a",)),
        (b"*", ("",)),
    ],
)
def test_a_path_is_decoded_once_in_segments(path, segments):
    assert request(path=path).segments() == segments


@pytest.mark.parametrize("path", [b"/%00", b"/\0", b"/%ff", b"/\xff", b"/a/%ED%A0%80"])
def test_a_path_that_is_no_text_is_refused(path):
    with pytest.raises(Invalid):
        request(path=path).segments()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_what_is_quoted_comes_back(parts):
    from urllib.parse import quote

    raw = ("/" + "/".join(quote(part, safe="") for part in parts)).encode()
    assert request(path=raw).segments() == tuple(parts)


def test_repeated_headers_are_joined():
    headers = [(b"if-none-match", b'"a"'), (b"x", b"y"), (b"if-none-match", b'"b"')]
    assert request(headers=headers).header(b"if-none-match") == b'"a", "b"'
    assert request(headers=headers).header(b"missing") is None


def test_fields_keep_every_value_in_order():
    assert parse_fields(b"a=1&b=+%2B&a=2&&c&=d", "x") == {"a": ("1", "2"), "b": (" +",), "c": ("",), "": ("d",)}


@given(st.binary(max_size=80))
def test_fields_are_text_or_refused(raw):
    try:
        fields = parse_fields(raw, "x")
    except Invalid:
        return
    for name, values in fields.items():
        for text in (name, *values):
            assert "\0" not in text
            text.encode("utf-8")


@pytest.mark.parametrize(
    ("raw", "media", "options"),
    [
        (None, "", {}),
        (b"Text/HTML", "text/html", {}),
        (b'a/b; Charset="UTF-8" ; x=y', "a/b", {"charset": "UTF-8", "x": "y"}),
        (b"a/b;", "a/b", {}),
    ],
)
def test_a_media_type_has_parameters(raw, media, options):
    assert parse_media_type(raw) == (media, options)


async def test_a_body_comes_whole_or_in_pieces():
    assert await request(b"whole").body(10) == b"whole"
    assert await request(b"in ", b"", b"pieces").body(10) == b"in pieces"
    assert await request().body(10) == b""
    assert await request({"type": "http.request"}).body(10) == b""


async def test_a_body_is_bounded():
    assert await request(b"12345", b"67890").body(10) == b"1234567890"
    with pytest.raises(TooLarge):
        await request(b"12345", b"678901").body(10)
    with pytest.raises(TooLarge):
        await request({"type": "never read"}, headers=[(b"content-length", b"11")]).body(10)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1, 2", b"1" * 30, b""])
async def test_a_bad_length_is_refused(length):
    with pytest.raises(Invalid):
        await request(headers=[(b"content-length", length)]).body(10)


async def test_a_client_that_goes_away_is_told_apart():
    with pytest.raises(Disconnected):
        await request({"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}).body(10)


async def test_a_body_must_arrive_in_time():
    with pytest.raises(Unavailable):
        await request({"type": "http.request", "body": b"x", "more_body": True}, time_s=0.01).body(10)


async def test_a_form_may_be_asked_for_again():
    """The body is read once."""
    asked = request(b"a=1", headers=[FORM])
    assert await asked.form(10) == await asked.form(10) == {"a": ("1",)}
    empty = request()
    assert await empty.form(10) == await empty.form(10) == {}


async def test_a_body_of_another_type_is_refused():
    with pytest.raises(UnsupportedMediaType):
        await request(b"a=1").form(10)
    with pytest.raises(UnsupportedMediaType):
        await request(b"{}", headers=[(b"content-type", b"application/json")]).form(10)
