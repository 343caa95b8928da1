"""What the server tells Prometheus: its requests, held polls, events, commits, and the certificate's days.

Without a metrics port nothing is counted and ``app`` is the world's own. Deliberately no names of metrics but those
of values that are only read: ``obs/metrics`` has the rest. Spec: ``docs/reference/metrics.md``.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from fleetvisor.obs.metrics import Metrics
from fleetvisor.server.background import Job
from fleetvisor.server.build import Asgi, World
from fleetvisor.server.files import StartFault
from fleetvisor.web.requests import Message, Receive, Scope, Send

_EVENTS_S: Final = 5.0
_LAST_EVENT: Final = "SELECT COALESCE(max(event_id), 0) AS event_id FROM events"


class _Last(msgspec.Struct, frozen=True):
    event_id: int


class Telemetry:
    """The metrics of one server, served on 127.0.0.1 while ``port`` is not ``None``."""

    def __init__(self, world: World, days_left: Callable[[], float], port: int | None) -> None:
        """Begin to serve. Raises ``StartFault`` when the port cannot be used."""
        self.metrics = Metrics()
        self.app: Asgi = world.app
        self.jobs: tuple[Job, ...] = ()
        self._events = 0
        self._stop: Callable[[], None] | None = None
        self._world = world
        if port is None:
            return
        self.app = counted(world.app, self.metrics)
        self.jobs = (Job("count-events", _EVENTS_S, self._count_events),)
        self._watch(days_left)
        try:
            self._stop = self.metrics.serve(port)
        except OSError as error:
            raise StartFault(f"The metrics port {port} cannot be used: {error.strerror}.") from error

    def close(self) -> None:
        """Stop serving."""
        if self._stop is not None:
            self._stop()

    def _watch(self, days_left: Callable[[], float]) -> None:
        world, watch = self._world, self.metrics.watch
        watch("held_polls", "Polls held at this moment.", lambda: world.channel.held)
        watch("last_event", "Number of the last event (counted each five seconds).", lambda: self._events)
        watch("certificate_days_left", "Days for which the server's certificate is still good.", days_left)
        watch("ready", "1 while /healthz answers 200.", lambda: int(world.ready))
        for name, about in (("writes", "Write bodies committed."), ("commits", "Transactions committed.")):
            if hasattr(world.db, name):  # the adapters that batch writes count them
                watch(f"database_{name}", about, lambda name=name: float(getattr(world.db, name)))

    async def _count_events(self) -> None:
        last = await self._world.db.one(_Last, _LAST_EVENT, {})
        self._events = last.event_id if last else 0


def counted(app: Asgi, metrics: Metrics) -> Asgi:
    """Wrap an application so that every answer is counted when it begins."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.request(scope["path"], scope["method"], message["status"])
            await send(message)

        await app(scope, receive, noting)

    return wrapped
