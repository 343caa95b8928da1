"""What the server tells Prometheus: requests, held polls, events, commits, rollouts, and the certificate's days.

Without a metrics port nothing is counted. Deliberately no names of metrics but those
of values that are only read: ``obs/metrics`` has the rest. Spec: ``docs/reference/metrics.md``.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from fleetvisor.features.rollouts.waiting import CODES
from fleetvisor.obs.metrics import Metrics
from fleetvisor.obs.sink import Sink
from fleetvisor.server.background import Job
from fleetvisor.server.build import World
from fleetvisor.server.descriptors import in_use
from fleetvisor.server.disks import STORES
from fleetvisor.server.files import StartFault
from fleetvisor.server.gate import Gate
from fleetvisor.web.requests import Message, Scope
from fleetvisor.web.safety import Began

_COUNT_S: Final = 5.0
_LAST_EVENT: Final = "SELECT COALESCE(max(event_id), 0) AS event_id FROM events"


class _Last(msgspec.Struct, frozen=True):
    event_id: int


class Telemetry:
    """The metrics of one server, served on 127.0.0.1 while ``port`` is not ``None``."""

    def __init__(self, world: World, days_left: Callable[[], float], port: int | None, sink: Sink, gate: Gate) -> None:
        """Begin to serve. Raises ``StartFault`` when the port cannot be used."""
        self.metrics = Metrics(world.resources)
        self.jobs: tuple[Job, ...] = ()
        self._events = 0
        self._rollouts: Mapping[str, float] = _rollouts({})
        self._stop: Callable[[], None] | None = None
        self._world = world
        if port is None:
            return
        world.began.append(counting(self.metrics))
        self.jobs = (Job("count", _COUNT_S, self._count),)
        self._watch(days_left, sink)
        self._watch_doors(gate)
        try:
            self._stop = self.metrics.serve(port)
        except OSError as error:
            raise StartFault(f"The metrics port {port} cannot be used: {error.strerror}.") from error

    def close(self) -> None:
        """Stop serving."""
        if self._stop is not None:
            self._stop()

    def _watch(self, days_left: Callable[[], float], sink: Sink) -> None:
        world, watch = self._world, self.metrics.watch
        watch("held_polls", "Polls held at this moment.", lambda: world.channel.held)
        watch("last_event", "Number of the last event (counted each five seconds).", lambda: self._events)
        watch("certificate_days_left", "Days for which the server's certificate is still good.", days_left)
        watch("ready", "1 while /healthz answers 200.", lambda: int(world.ready and world.health.well))
        watch("log_lines_lost_total", "Log lines that could not be written.", lambda: sink.lost)
        watch("layers_damaged", "Stored layers that are damaged or missing.", lambda: world.checks.damaged)
        about = "Time since each background job last came round."
        self.metrics.watch_each("job_heartbeat_age_seconds", about, "job", world.health.ages)
        watch("database_writes_total", "Write bodies committed.", lambda: world.db.tally.writes)
        watch("database_commits_total", "Transactions committed.", lambda: world.db.tally.commits)
        watch("database_repeats_total", "Write bodies run again after a conflict.", lambda: world.db.tally.repeats)
        watch("change_log_age_seconds", "Seconds since other nodes' changes were read.", lambda: _age(world))
        about = "1 for each store whose disk is full, read-only, failing or damaged."
        self.metrics.watch_each("degraded", about, "store", lambda: _degraded(world))
        about = "Rollouts under way, by what they wait for (counted each five seconds)."
        self.metrics.watch_each("rollouts", about, "waits_for", lambda: self._rollouts)

    def _watch_doors(self, gate: Gate) -> None:
        watch = self.metrics.watch
        watch("descriptors", "Open files, connections among them.", in_use)
        watch("descriptors_max", "Open files at which no new connection is accepted.", lambda: gate.shares.in_use_max)
        watch("doors_shut_total", "Times that accepting paused for want of places.", lambda: gate.times_shut)
        watch("descriptors_exhausted_total", "Times that open files ran out.", lambda: gate.times_exhausted)
        watch("connections_shed_total", "Connections ended beyond an address' share.", lambda: gate.shedding.ended)

    async def _count(self) -> None:
        await self._world.health.look()
        last = await self._world.db.one(_Last, _LAST_EVENT, {})
        self._events = last.event_id if last else 0
        self._rollouts = _rollouts(await self._world.rollouts.waiting())


def _rollouts(waiting: Mapping[str, int]) -> dict[str, float]:
    """Return a number for everything that a rollout under way may wait for, so that no series ever ends."""
    return {code: waiting.get(code, 0) for code in CODES if code != "start"}


def _age(world: World) -> float:
    return world.bus.age()  # of the reader that begins later


def _degraded(world: World) -> dict[str, float]:
    """Return 0 or 1 for each store, so that no series ever ends."""
    found = world.disks.degraded()
    return {store: float(store in found) for store in STORES}


def counting(metrics: Metrics) -> Began:
    """Return what counts an answer when it begins."""

    def began(scope: Scope, message: Message) -> None:
        metrics.request(scope["path"], scope["method"], message["status"])

    return began
