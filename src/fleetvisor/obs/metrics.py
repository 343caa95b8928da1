"""Metrics, for Prometheus: counted when somebody looks, served on a loopback port of their own.

Few names, each in ``docs/reference/metrics.md``. Labels are bounded: a route is the name of a resource, never a SID
nor a path. Deliberately counts nothing unless a metrics port is given: a poll costs microseconds.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
_DEVICE_CALLS: Final = frozenset({"configs", "desired", "enroll", "layers", "manifests", "report"})
_DDI_CALLS: Final = frozenset(
    {"cancelAction", "configData", "confirmationBase", "deploymentBase", "installedBase", "softwaremodules"}
)
_PAGES: Final = frozenset({"ca.pem", "docs", "healthz", "openapi.json"})
_DDI: Final = ["controller", "v1"]
OTHER: Final = "other"
_log = structlog.get_logger()

Reading = Callable[[], float]
Readings = Callable[[], Mapping[str, float]]


def route_of(path: str, resources: frozenset[str]) -> str:
    """Return the bounded name of the route that a path belongs to, such as ``v1/Devices/Configs``.

    ``resources`` are the names of the API's resources, such as ``Devices``.
    """
    first, *rest = path.strip("/").split("/")
    if first == "v1":
        names = [part.removesuffix(".json") for part in rest[::2]][:2]  # every second part is a SID or a name
        return "/".join(["v1", *names]) if resources.issuperset(names) else "v1"
    if first == "device":
        return f"device/{rest[1]}" if len(rest) > 1 and rest[1] in _DEVICE_CALLS else "device"
    if rest[:2] == _DDI:
        return f"ddi/{rest[3]}" if len(rest) > 3 and rest[3] in _DDI_CALLS else "ddi"
    return first if first in _PAGES else OTHER


class Metrics:
    """The server's metrics, in a registry of their own; ``resources`` are the names of the API's."""

    def __init__(self, resources: Iterable[str]) -> None:
        """Start every count at 0."""
        self.registry = CollectorRegistry()
        self._resources = frozenset(resources)
        self._requests = Counter(
            "fleetvisor_requests_total", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self._failures = Counter(
            "fleetvisor_job_failures_total", "Failures of background jobs.", ["job"], registry=self.registry
        )

    def request(self, path: str, method: str, status: int) -> None:
        """Count one answered request."""
        route = route_of(path, self._resources)
        self._requests.labels(route, method if method in _METHODS else OTHER, status).inc()

    def job_failed(self, job: str) -> None:
        """Count one failure of a background job."""
        self._failures.labels(job).inc()

    def watch(self, name: str, about: str, read: Reading) -> None:
        """Publish a value that is read when it is asked for, on another thread: ``read`` must only look.

        A name that ends with ``_total`` is a counter's.
        """
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        self.registry.register(_Watched(lambda: kind(f"fleetvisor_{name}", about, value=read())))

    def watch_each(self, name: str, about: str, label: str, read: Readings) -> None:
        """Publish a gauge for each value of a label, read as by ``watch``."""

        def collect() -> Metric:
            family = GaugeMetricFamily(f"fleetvisor_{name}", about, labels=[label])
            for value, number in read().items():
                family.add_metric([value], number)
            return family

        self.registry.register(_Watched(collect))

    def serve(self, port: int) -> Callable[[], None]:
        """Serve the metrics on 127.0.0.1; return what stops it. Raises ``OSError``."""
        server, thread = start_http_server(port, "127.0.0.1", self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _Watched(Collector):
    """One metric whose values are read when somebody asks for them."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Read it. One that cannot be read is left out, and hides no other."""
        try:
            yield self._read()
        except Exception as error:  # noqa: BLE001
            _log.error("metric.unread", exc_info=error)
