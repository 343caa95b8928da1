"""Requests and answers of the native device API as bytes."""

import msgspec
import pytest
from tests.unit.agent.script import app, desired

from fleetvisor.agent.commands import Failure, Fetch, Fetched, FetchManifest, Poll, Polled, Taken, Tell, Unchanged
from fleetvisor.agent.wire import Response, parse, render
from fleetvisor.protocol.native import Report, Running

DIGEST = "d" * 64
REPORT = Report(journal="0" * 32, sequence=1, running=Running())


def test_a_poll_shows_its_etag_and_its_patience() -> None:
    request = render(Poll('W/"7"', 50))
    assert (request.method, request.path) == ("GET", "/device/v1/desired")
    assert dict(request.headers) == {"if-none-match": 'W/"7"', "prefer": "wait=50"}
    assert request.time_s > 50
    assert dict(render(Poll(None, 0)).headers) == {}


def test_a_fetch_asks_for_exactly_its_bytes() -> None:
    request = render(Fetch(DIGEST, 100, 200))
    assert request.path == f"/device/v1/layers/{DIGEST}"
    assert request.headers["range"] == "bytes=100-199"


def test_a_report_is_json_that_the_server_can_read() -> None:
    request = render(Tell(REPORT))
    assert (request.method, request.path) == ("POST", "/device/v1/report")
    assert msgspec.json.decode(request.body, type=Report) == REPORT


def test_a_desired_state_comes_back_with_its_etag() -> None:
    state = desired(app("v1", 1))
    event = parse(Poll(None, 0), Response(200, {"etag": '"9"'}, msgspec.json.encode(state)))
    assert event == Polled(state, '"9"')


def test_fields_that_a_later_server_adds_are_ignored() -> None:
    body = msgspec.json.encode({**msgspec.to_builtins(desired(None)), "later": 1})
    assert isinstance(parse(Poll(None, 0), Response(200, {}, body)), Polled)


def test_304_is_unchanged_and_may_ask_to_wait() -> None:
    assert parse(Poll('"1"', 50), Response(304, {}, b"")) == Unchanged(None)
    assert parse(Poll('"1"', 50), Response(304, {"retry-after": "3"}, b"")) == Unchanged(3)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"app": 1}', b"\xff"])
def test_a_body_that_cannot_be_read_is_a_failure_not_a_crash(body: bytes) -> None:
    for command in (Poll(None, 0), Tell(REPORT)):
        assert isinstance(parse(command, Response(200, {}, body)), Failure)


def test_a_range_is_taken_from_206_and_from_the_200_of_a_proxy_that_ignores_ranges() -> None:
    command = Fetch(DIGEST, 2, 4)
    part = Response(206, {"content-range": "bytes 2-3/10"}, b"cd")
    assert parse(command, part) == Fetched(b"cd")
    assert parse(command, Response(200, {}, b"abcd", cut=True)) == Fetched(b"cd")


@pytest.mark.parametrize(
    "response",
    [
        Response(206, {"content-range": "bytes 0-1/10"}, b"ab"),
        Response(206, {}, b"cd"),
        Response(206, {"content-range": "bytes 2-3/10"}, b"c"),
        Response(206, {"content-range": "bytes 2-3/10"}, b"cde"),
        Response(200, {}, b"abc"),
    ],
)
def test_bytes_that_were_not_asked_for_are_never_taken(response: Response) -> None:
    assert isinstance(parse(Fetch(DIGEST, 2, 4), response), Failure)


def test_an_acknowledged_report_says_whether_it_was_taken() -> None:
    assert parse(Tell(REPORT), Response(200, {}, b'{"taken":false}')) == Taken(taken=False)


@pytest.mark.parametrize(
    ("status", "refused", "unproven"), [(404, True, False), (401, False, True), (503, False, False)]
)
def test_other_answers_are_failures_of_their_kind(status: int, refused: bool, unproven: bool) -> None:
    event = parse(Poll(None, 0), Response(status, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"no"))
    assert isinstance(event, Failure)
    assert (event.refused, event.unproven, event.retry_after_s) == (refused, unproven, None)


def test_a_manifest_is_taken_whole_or_not_at_all() -> None:
    command = FetchManifest("a" * 64)
    request = render(command)
    assert (request.method, request.path) == ("GET", "/device/v1/manifests/" + "a" * 64)
    assert parse(command, Response(200, {}, b"manifest")) == Fetched(b"manifest")
    for response in (Response(206, {}, b"mani"), Response(200, {}, b"m" * request.body_bytes_max, cut=True)):
        assert isinstance(parse(command, response), Failure)
