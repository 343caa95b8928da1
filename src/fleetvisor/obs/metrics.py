"""Metrics, for Prometheus: counted when somebody looks, served on a loopback port of their own.

Few names, each in ``docs/reference/metrics.md``. Labels are bounded: a route is the name of a resource, never a SID
nor a path. Deliberately counts nothing unless a metrics port is given: a poll costs microseconds.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_RESOURCES: Final = frozenset({"Accounts", "Apps", "Configs", "Devices", "Keys", "Manifest", "Secrets", "Updates"})
_DEVICE_CALLS: Final = frozenset({"configs", "desired", "layers", "manifests", "report"})
_PAGES: Final = frozenset({"ca.pem", "docs", "healthz", "openapi.json"})
OTHER: Final = "other"


def route_of(path: str) -> str:
    """Give the bounded name of the route that a path belongs to, such as ``v1/Devices/Configs``."""
    first, *rest = path.strip("/").split("/")
    if first == "v1":
        names = [part.removesuffix(".json") for part in rest[::2]][:2]  # every second part is a SID or a name
        return "/".join(["v1", *names]) if _RESOURCES.issuperset(names) else "v1"
    if first == "device":
        return f"device/{rest[1]}" if len(rest) > 1 and rest[1] in _DEVICE_CALLS else "device"
    return first if first in _PAGES else OTHER


class Metrics:
    """The server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Start every count at 0."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fleetvisor_requests_total", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self._failures = Counter(
            "fleetvisor_job_failures_total", "Failures of background jobs.", ["job"], registry=self.registry
        )

    def request(self, path: str, method: str, status: int) -> None:
        """Count one answered request."""
        self._requests.labels(route_of(path), method if method in _METHODS else OTHER, status).inc()

    def job_failed(self, job: str) -> None:
        """Count one failure of a background job."""
        self._failures.labels(job).inc()

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Publish a value that is read when it is asked for, on another thread: ``read`` must only look."""
        Gauge(f"fleetvisor_{name}", about, registry=self.registry).set_function(read)

    def serve(self, port: int) -> Callable[[], None]:
        """Serve the metrics on 127.0.0.1; give what stops it. Raises ``OSError``."""
        server, thread = start_http_server(port, "127.0.0.1", self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop
