"""From problems to the five-field answer, in this one place for every edge.

``Edge`` is the outer skin of an ASGI application: it gives the request its id, calls the inner handler, sends its
answer, and turns whatever is raised into an answer and, where it is a fault of ours, a log line with that id.
Deliberately knows no routes. Spec: the Microvisor API reference, section 1.2.
"""

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from fleetvisor.blobs.store import BlobFault, BlobsUnfit
from fleetvisor.db.database import DatabaseBusy, DatabaseUnfit, ReferenceViolated
from fleetvisor.features.events import actor
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.disk import SENTENCES, fault_of
from fleetvisor.ground.errors import (
    Conflict,
    InternalFault,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
)
from fleetvisor.ground.sids import new_request_sid
from fleetvisor.web.answers import JSON, Answer, Header, send_answer
from fleetvisor.web.auth import NoCredentials
from fleetvisor.web.guard import NAMELESS, DeviceName, Guard, address_of
from fleetvisor.web.rates import RateLimited
from fleetvisor.web.requests import Disconnected, Receive, Request, Scope, Send
from fleetvisor.web.urls import Urls

Handler = Callable[[Request], Awaitable[Answer]]

_PATH_CHARS_MAX: Final = 300
_BUSY_RETRY_S: Final = 1
_DISK_RETRY_S: Final = 10
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_CLOSE: Final[Header] = (b"connection", b"close")


class BrokenBody(Invalid):
    """The body ended early, or its chunks are malformed.

    The server that reads it says the same of both, and of a client that is gone: that one never sees the answer.
    """

    def __init__(self) -> None:
        super().__init__(
            "The body ended early, or its chunks (Transfer-Encoding) are malformed. Send the complete body again."
        )


class ProblemBody(msgspec.Struct, frozen=True):
    """The five fields of every error answer."""

    code: int
    detail: str
    message: str
    more_info: str
    status: int


def render_problem(problem: Problem, urls: Urls, *, path: str = "", headers: tuple[Header, ...] = ()) -> Answer:
    """Render a problem; a missing resource's message names the ``path`` that was asked for."""
    message = _message_of(problem, path)
    body = ProblemBody(problem.code, problem.detail, message, urls.more_info(problem.code), problem.status)
    if problem.retry_after_s is not None:
        headers = (*headers, (b"retry-after", str(problem.retry_after_s).encode()))
    return Answer(problem.status, msgspec.json.encode(body), (JSON, *headers))


def _message_of(problem: Problem, path: str) -> str:
    """Return the kind of problem and what happened: Twilio's libraries and CLI show the message, never the detail."""
    if isinstance(problem, NotFound) and path:
        return f"The requested resource {path[:_PATH_CHARS_MAX]} was not found"
    kind = problem.message.removesuffix(".")
    if isinstance(problem, NoCredentials):
        return kind  # to the word what the original answered
    return kind if problem.detail == problem.message else f"{kind}: {problem.detail.removesuffix('.')}"


def problem_of(error: Exception) -> Problem:
    """Return the problem that the caller is told about for ``error``."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, DatabaseUnfit | BlobsUnfit):
        return Unavailable(SENTENCES[error.fault], retry_after_s=_DISK_RETRY_S)
    if isinstance(error, OSError) and (fault := fault_of(error)):
        return Unavailable(SENTENCES[fault], retry_after_s=_DISK_RETRY_S)
    if isinstance(error, FileNotFoundError):  # somebody removed the folder of uploads on their way
        return Unavailable("A folder of the server is missing.", retry_after_s=_DISK_RETRY_S)
    if isinstance(error, OSError) and error.errno in _SHORT:
        return Unavailable("The server has run out of open files, processes or memory.", retry_after_s=_DISK_RETRY_S)
    if isinstance(error, BlobFault):
        return Unavailable("The server's firmware store cannot be read.", retry_after_s=_DISK_RETRY_S)
    if isinstance(error, ReferenceViolated):  # such as of an account that ended while its request was under way
        return Conflict("A resource that the request refers to was removed meanwhile.")
    if isinstance(error, DatabaseBusy):
        return Unavailable("The database is busy.", retry_after_s=_BUSY_RETRY_S)
    return InternalFault()


class Edge:
    """The outer skin of one edge: an ASGI application around ``handle``.

    ``challenge`` is the ``WWW-Authenticate`` value of its 401 answers. A browser gets one that it does not know: for
    ``Basic`` it would ask for a password, keep it, and send it along with whatever any page posts here. ``common``
    headers are on every answer. ``named`` reads which device a refused request names beside its credentials.
    """

    def __init__(
        self,
        handle: Handler,
        *,
        clock: Clock,
        entropy: Entropy,
        urls: Urls,
        request_time_s: float,
        challenge: bytes,
        guard: Guard,
        log: Any,  # noqa: ANN401  (structlog's bound loggers have no common type)
        common: tuple[Header, ...] = (),
        named: Callable[[Request], DeviceName] = lambda _: NAMELESS,
    ) -> None:
        """Keep what each request needs."""
        self._handle = handle
        self._clock = clock
        self._entropy = entropy
        self._urls = urls
        self._request_time_s = request_time_s
        self._challenge: Header = (b"www-authenticate", challenge)
        self._guard = guard
        self._log = log
        self._common = common
        self._named = named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; never raises for what a request can cause."""
        request_sid = new_request_sid(self._entropy)
        structlog.contextvars.bind_contextvars(request_id=request_sid)
        actor.begin(address_of(scope), request_sid)
        request = Request(scope, receive, request_sid=request_sid, clock=self._clock, time_s=self._request_time_s)
        try:
            answer = await self._handle(request)
        except Disconnected:
            answer = self._answer_to(request, BrokenBody())
        except Exception as error:  # noqa: BLE001  (whatever a handler raises must become an answer and a log line)
            answer = self._answer_to(request, error)
            await request.drop_rest()
        extra = (*self._common, (b"twilio-request-id", request_sid.encode()))
        await send_answer(send, answer, head=request.method == "HEAD", extra=extra)

    def _challenge_to(self, request: Request) -> Header:
        name, value = self._challenge
        if not value.startswith(b"Basic"):  # devices: a poll that is held has let its headers go
            return self._challenge
        return self._challenge if request.header(b"sec-fetch-mode") is None else (name, b"X-" + value)

    def _answer_to(self, request: Request, error: Exception) -> Answer:
        problem = self._guard.judge(request, problem_of(error), self._named(request))
        if isinstance(problem, Unavailable):
            self._log.warning("request.unavailable", method=request.method, path=_shown(request), reason=str(error))
        elif problem.status >= 500:
            self._log.error("request.failed", method=request.method, path=_shown(request), exc_info=error)
        headers: tuple[Header, ...] = (self._challenge_to(request),) if isinstance(problem, Unauthenticated) else ()
        if isinstance(problem, BrokenBody):
            headers = (_CLOSE,)
        if isinstance(problem, RateLimited):
            headers = problem.headers
        if isinstance(problem, MethodNotAllowed):
            headers = ((b"allow", ", ".join(problem.allowed).encode()),)
        return render_problem(problem, self._urls, path=_shown(request), headers=headers)


def _shown(request: Request) -> str:
    """Return the path as it may stand in a message: percent-encoded, as it came."""
    return request.raw_path[: 2 * _PATH_CHARS_MAX].decode("ascii", "replace")
