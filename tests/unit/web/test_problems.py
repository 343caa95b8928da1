"""From what is raised to what a caller is told."""

import json

import pytest

from fleetvisor.db.database import DatabaseBusy, DatabaseFault
from fleetvisor.ground import errors
from fleetvisor.ground.limits import Limits
from fleetvisor.reality import RealClock, RealEntropy
from fleetvisor.web.address import Addresses
from fleetvisor.web.answers import Answer
from fleetvisor.web.auth import NoCredentials
from fleetvisor.web.guard import Guard
from fleetvisor.web.problems import Edge, problem_of, render_problem
from fleetvisor.web.requests import Disconnected
from fleetvisor.web.urls import Urls, segment

URLS = Urls("https://mv.example.com/")
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_problem_is_five_fields(kind):
    answer = render_problem(kind("What happened."), URLS)
    body = json.loads(answer.body)
    assert body == {
        "code": kind.code,
        "detail": "What happened.",
        "message": (kind.__doc__ or "").strip().removesuffix(".") + ": What happened",
        "more_info": f"https://mv.example.com/docs/errors/{kind.code}",
        "status": kind.status,
    }
    assert answer.status == kind.status


def test_a_problem_with_nothing_to_add_says_its_kind_once():
    """The libraries of the published API show their user the message, and none of them the detail."""
    body = json.loads(render_problem(errors.Conflict(), URLS).body)
    assert body["message"] == "The request conflicts with the current state of a resource"


def test_a_missing_resource_is_named_in_bounds():
    body = json.loads(render_problem(errors.NotFound(), URLS, path="/v1/" + "x" * 1000).body)
    assert body["message"].startswith("The requested resource /v1/xxx")
    assert len(body["message"]) < 400


def test_waiting_time_becomes_a_header():
    answer = render_problem(errors.TooManyRequests(retry_after_s=7), URLS)
    assert (b"retry-after", b"7") in answer.headers


def test_faults_are_told_by_kind_and_never_by_content():
    assert isinstance(problem_of(DatabaseBusy("inside")), errors.Unavailable)
    for error in (DatabaseFault("inside"), ValueError("inside"), KeyError("inside")):
        problem = problem_of(error)
        assert isinstance(problem, errors.InternalFault)
        assert "inside" not in problem.detail


class Log:
    def __init__(self):
        self.errors, self.warnings = [], []

    def error(self, event, **fields):
        self.errors.append((event, fields))

    def warning(self, event, **fields):
        self.warnings.append((event, fields))


async def serve(handle, method="GET"):
    sent, log = [], Log()

    async def send(message):
        sent.append(message)

    edge = Edge(
        handle,
        clock=RealClock(),
        entropy=RealEntropy(),
        urls=URLS,
        request_time_s=1,
        guard=Guard(addresses=Addresses(), clock=RealClock(), limits=Limits()),
        challenge=b"Basic",
        log=log,
        common=((b"x", b"y"),),
    )
    scope = {"type": "http", "method": method, "path": "/p", "raw_path": b"/p", "query_string": b"", "headers": []}
    await edge(scope, None, send)
    return sent, log


def raising(error):
    async def handle(_):
        raise error

    return handle


async def test_an_answer_gets_its_length_and_request_id():
    async def handle(_):
        return Answer(200, b"hello", ((b"a", b"b"),))

    (start, body), _ = await serve(handle)
    headers = dict(start["headers"])
    assert body["body"] == b"hello"
    assert headers[b"content-length"] == b"5"
    assert headers[b"x"] == b"y"
    assert headers[b"twilio-request-id"].startswith(b"RQ")
    (start, body), _ = await serve(handle, "HEAD")
    assert (body["body"], dict(start["headers"])[b"content-length"]) == (b"", b"5")


async def test_a_challenge_comes_with_401_alone():
    for error in (NoCredentials(), errors.Unauthenticated()):
        (start, _), log = await serve(raising(error))
        assert dict(start["headers"])[b"www-authenticate"] == b"Basic"
        assert not log.errors
    (start, _), _ = await serve(raising(errors.AccessDenied()))
    assert b"www-authenticate" not in dict(start["headers"])


async def test_only_faults_of_ours_are_logged_as_errors():
    assert not (await serve(raising(errors.Invalid())))[1].errors
    _, log = await serve(raising(errors.Unavailable()))
    assert (len(log.errors), len(log.warnings)) == (0, 1)
    _, log = await serve(raising(DatabaseBusy()))
    assert (len(log.errors), len(log.warnings)) == (0, 1)
    (start, _), log = await serve(raising(ZeroDivisionError()))
    assert start["status"] == 500
    assert isinstance(log.errors[0][1]["exc_info"], ZeroDivisionError)


async def test_a_body_that_ended_early_is_400_on_a_connection_that_closes():
    """The server below answers 500 where nothing is sent, and says the same of malformed chunks and of clients gone."""
    (start, body), log = await serve(raising(Disconnected()))
    assert start["status"] == 400
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["code"] == 20001
    assert not log.errors


def test_urls_are_absolute_and_quoted():
    assert URLS.device("UV1") == "https://mv.example.com/v1/Devices/UV1"
    assert URLS.update("UV1", 2) == "https://mv.example.com/v1/Devices/UV1/Updates/2"
    assert URLS.app_manifest("KA1") == "https://mv.example.com/v1/Apps/KA1/Manifest"
    assert segment("a b/ü%?#") == "a%20b%2F%C3%BC%25%3F%23"
