"""The native device edge as one ASGI callable: which call a path means, and what becomes of a fault.

Polls and downloads go straight to their handlers, because a fleet makes nothing else all day; everything else, and
every fault, goes through ``web/problems``. Deliberately no rule of the API itself. Spec:
``docs/reference/device-api.md``.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from fleetvisor.bus.bus import Bus
from fleetvisor.channel.date_header import DateHeader
from fleetvisor.channel.download import Abandoned, AbortedStream, Download
from fleetvisor.channel.edge import dated, faulty, no_method
from fleetvisor.channel.held_polls import HeldPolls
from fleetvisor.channel.native import openapi
from fleetvisor.channel.native.calls import Native
from fleetvisor.channel.native.desired import DesiredAnswers
from fleetvisor.features.apps.service import Apps
from fleetvisor.features.configs.service import Configs
from fleetvisor.features.devices.offers import Offers
from fleetvisor.features.devices.presence import Presence
from fleetvisor.features.identity.enrollment import Enrollment
from fleetvisor.features.identity.proofs import Proofs
from fleetvisor.features.updates.service import Updates
from fleetvisor.ground.clock import Clock, Entropy
from fleetvisor.ground.errors import NotFound
from fleetvisor.ground.limits import Limits
from fleetvisor.web.answers import Answer, json_answer
from fleetvisor.web.auth import BEARER_CHALLENGE
from fleetvisor.web.guard import Guard
from fleetvisor.web.problems import Edge, Handler
from fleetvisor.web.requests import Receive, Request, Scope, Send
from fleetvisor.web.urls import Urls

BASE: Final = "/device/v1"
_DESIRED: Final = f"{BASE}/desired"
_LAYERS: Final = f"{BASE}/layers/"
_MANIFESTS: Final = f"{BASE}/manifests/"
_READ: Final = ("GET", "HEAD")
_WRITE: Final = ("POST",)
_DIGEST_CHARS: Final = 64
_HEX: Final = frozenset("0123456789abcdef")


class Channel:
    """The native device API under ``/device/v1``."""

    def __init__(
        self,
        *,
        proofs: Proofs,
        enrollment: Enrollment,
        offers: Offers,
        apps: Apps,
        updates: Updates,
        configs: Configs,
        download: Download,
        presence: Presence,
        limits: Limits,
        clock: Clock,
        entropy: Entropy,
        bus: Bus,
        urls: Urls,
        guard: Guard,
        log: Any,  # noqa: ANN401  (structlog's bound loggers have no common type)
    ) -> None:
        """Keep the parts of the channel, and build its own."""
        self._clock, self._urls, self._log = clock, urls, log
        self._date = DateHeader()
        self._held_polls = HeldPolls(
            bus=bus, held_max=limits.held_polls_max, per_device_max=limits.held_polls_per_device_max
        )
        self._native = Native(
            proofs=proofs,
            enrollment=enrollment,
            desired=DesiredAnswers(offers=offers, apps=apps, clock=clock, bus=bus),
            updates=updates,
            configs=configs,
            presence=presence,
            held_polls=self._held_polls,
            limits=limits,
            clock=clock,
            entropy=entropy,
            date=self._date,
            guard=guard,
        )
        self._download = download
        self._routes = _routes(self._native, urls, limits)
        self._skin: Callable[[Handler], Edge] = partial(
            Edge,
            clock=clock,
            entropy=entropy,
            urls=urls,
            request_time_s=limits.request_time_s,
            guard=guard,
            challenge=BEARER_CHALLENGE,
            log=log,
        )
        self._edge = self._skin(self._handle)

    @property
    def held(self) -> int:
        """How many polls are held at this moment."""
        return self._held_polls.held

    def release_all(self) -> None:
        """Answer every held poll now, and hold none from here on."""
        self._held_polls.release_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope["path"]
        try:
            if path == _DESIRED and scope["method"] in _READ:
                return await self._native.desired(scope, receive, send)
            if path.startswith(_LAYERS) and scope["method"] in _READ:
                return await self._download.layer(_digest(path, _LAYERS), scope, send)
            if path.startswith(_MANIFESTS) and scope["method"] in _READ:
                return await self._download.manifest(_digest(path, _MANIFESTS), scope, send)
        except Abandoned as error:
            self._log.info("download.abandoned", path=path, reason=str(error))
            raise
        except AbortedStream:
            self._log.exception("request.broken", path=path)
            raise
        except Exception as error:  # noqa: BLE001  (the edge makes an answer and a log line of whatever it is)
            return await self._skin(faulty(error, self._urls))(scope, receive, dated(send, self._date, self._clock))
        return await self._edge(scope, receive, dated(send, self._date, self._clock))

    async def _handle(self, request: Request) -> Answer:
        path: str = request.scope["path"]
        if path == _DESIRED or path.startswith((_LAYERS, _MANIFESTS)):
            raise no_method(_READ)
        methods, handler = self._routes.get(path, (None, None))
        if methods is None or handler is None:
            raise NotFound("No such path; the reference is at /device/v1/openapi.json.")
        if request.method not in methods:
            raise no_method(methods)
        return await handler(request)


def _routes(native: Native, urls: Urls, limits: Limits) -> dict[str, tuple[tuple[str, ...], Handler]]:
    document = partial(openapi.document, urls.base, items_max=limits.config_fetch_items_max)
    return {
        f"{BASE}/report": (_WRITE, native.report),
        f"{BASE}/configs/fetch": (_WRITE, native.fetch),
        f"{BASE}/enroll": (_WRITE, native.enroll),
        f"{BASE}/openapi.json": (_READ, _page(document)),
    }


def _page(document: Callable[[], dict[str, Any]]) -> Handler:
    made = cache(lambda: json_answer(document()))

    async def handle(_: Request) -> Answer:
        return made()

    return handle


def _digest(path: str, base: str) -> str:
    digest = path[len(base) :]
    if len(digest) != _DIGEST_CHARS or not set(digest) <= _HEX:
        raise NotFound("The path must name content by its SHA-256: 64 lower-case hex digits.")
    return digest
