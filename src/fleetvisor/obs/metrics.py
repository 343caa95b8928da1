"""Metrics, for Prometheus: counted always, served only when a port is given.

Deliberately few names, each documented in ``docs/reference/metrics.md``; labels are bounded (no SIDs, no paths).
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class Metrics:
    """The server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        """Start every count at 0."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fleetvisor_requests_total", "Requests answered.", ["edge", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "fleetvisor_request_seconds", "Time to answer, held polls excluded.", ["edge"], registry=self.registry
        )

    def request(self, edge: str, method: str, status: int, elapsed_s: float) -> None:
        """Count one answered request."""
        known = method if method in {"GET", "HEAD", "POST", "DELETE", "OPTIONS"} else "other"
        self._requests.labels(edge, known, status).inc()
        self._seconds.labels(edge).observe(elapsed_s)

    def watch(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Publish a value that is read when it is asked for."""
        Gauge(f"fleetvisor_{name}", about, registry=self.registry).set_function(read)

    def serve(self, port: int) -> None:
        """Serve the metrics on 127.0.0.1."""
        start_http_server(port, "127.0.0.1", self.registry)
