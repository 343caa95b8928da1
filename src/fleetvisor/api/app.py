"""The REST edge: authenticate, find the operation, call it; the skin around it renders answers and problems.

``.json`` at the end of a path is stripped only where nothing has that exact name: the exact path is tried first, and
once more without the suffix when it, or the resource it names, is not found. Never answers 3xx. CORS on ``/v1`` as
the published document declares it; no cookie is ever read.
"""

from typing import Any, Final

from fleetvisor.api.pages import Pages
from fleetvisor.api.parameters import check_names
from fleetvisor.api.routes import Call, Route, Routes
from fleetvisor.features.accounts.model import Caller
from fleetvisor.features.accounts.service import Accounts
from fleetvisor.features.events import actor
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.errors import AccessDenied, MethodNotAllowed, NotFound, Problem
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer, Header
from fleetvisor.web.auth import BASIC_CHALLENGE, parse_basic
from fleetvisor.web.guard import Guard
from fleetvisor.web.problems import Edge, Handler
from fleetvisor.web.requests import FORM, Fields, Receive, Request, Scope, Send, parse_media_type
from fleetvisor.web.safety import NO_STORE
from fleetvisor.web.scans import Scans
from fleetvisor.web.urls import Urls

_SUFFIX: Final = ".json"
_CORS: Final[tuple[Header, ...]] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Authorization"),
    (b"access-control-allow-credentials", b"false"),
    (b"access-control-expose-headers", b"Twilio-Request-Id, Retry-After"),
)


class Api:
    """The paths that are not a device's, as one ASGI callable."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        routes: Routes,
        pages: Pages,
        limits: Limits,
        urls: Urls,
        clock: Clock,
        entropy: Entropy,
        guard: Guard,
        scans: Scans,
        log: Any,  # noqa: ANN401  (structlog's bound loggers have no common type)
    ) -> None:
        """Keep the table of operations and what all of them need."""
        self._accounts = accounts
        self._routes = routes
        self._pages = pages
        self._limits = limits
        self._guard = guard
        self._scans = scans

        def skin(handle: Handler, challenge: bytes, common: tuple[Header, ...]) -> Edge:
            return Edge(
                handle,
                clock=clock,
                entropy=entropy,
                urls=urls,
                request_time_s=limits.request_time_s,
                challenge=challenge,
                guard=guard,
                log=log,
                common=common,
            )

        self._skin = skin
        self._versioned = skin(self._operate, BASIC_CHALLENGE, (*_CORS, NO_STORE))
        self._open = skin(self._page, BASIC_CHALLENGE, ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        edge = self._versioned if path == "/v1" or path.startswith("/v1/") else self._open
        await edge(scope, receive, send)

    async def refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a problem that was met before its path was looked at."""

        async def handle(_: Request) -> Answer:
            raise problem

        await self._skin(handle, BASIC_CHALLENGE, ())(scope, receive, send)

    async def _page(self, request: Request) -> Answer:
        path = "/" + "/".join(request.segments())
        if request.method not in {"GET", "HEAD"}:
            raise _no_method(["GET", "HEAD"]) if self._pages.has(path) else NotFound(_NO_PATH)
        return await self._pages.get(path)

    async def _operate(self, request: Request) -> Answer:
        if request.method == "OPTIONS":
            return Answer(204)
        credentials = parse_basic(request.header(b"authorization"))
        caller = await self._accounts.authenticate(*credentials)
        request.prove_again = lambda: self._accounts.authenticate(*credentials)
        actor.proven(caller.sid)
        if caller.key_sid is not None:
            self._guard.take_request(caller.key_sid)
        else:
            self._guard.take_token_request(caller.account_sid)
        segments = request.segments()
        try:
            return await self._run(request, caller, segments)
        except NotFound:
            if not segments[-1].endswith(_SUFFIX):
                raise
            stripped = (*segments[:-1], segments[-1].removesuffix(_SUFFIX))
            try:
                return await self._run(request, caller, stripped)
            except NotFound as error:  # missing under both names: told of the one that a resource has
                raise NotFound(error.detail) from None

    async def _run(self, request: Request, caller: Caller, segments: tuple[str, ...]) -> Answer:
        found = self._routes.find(segments)
        if found is None:
            raise NotFound(_NO_PATH)
        by_method, args = found
        route = by_method.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            raise _no_method([*by_method, "OPTIONS"])
        if not caller.may(route.role):
            raise AccessDenied(f"This needs the role {route.role}; the API key has {caller.role}.")
        if route.judge is not None:
            route.judge(caller)
        form: Fields = await request.form(self._limits.form_bytes_max) if _reads_form(route, request) else {}
        if route.has_extensions:
            check_names(route, request.query(), form)
        call = Call(request, caller, args, form)
        if route.scans:
            return await self._scans.run(caller.account_sid, request, lambda: route.handler(call))
        return await route.handler(call)


def _reads_form(route: Route, request: Request) -> bool:
    """Return whether to read the body as a form: a POST's, and what was sent as one where an operation takes none."""
    if route.upload or route.media is not None:
        return False
    if route.method == "POST":
        return True
    return route.extension and parse_media_type(request.header(b"content-type"))[0] == FORM


_NO_PATH: Final = "No such path; the reference is at /docs."


def _no_method(allowed: list[str]) -> MethodNotAllowed:
    return MethodNotAllowed(f"This path has {', '.join(sorted(allowed))}.", allowed=tuple(sorted(allowed)))
