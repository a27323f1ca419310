"""What the door counts. One page for all processes where PROMETHEUS_MULTIPROC_DIR names a folder they share."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """Times of requests by operation and status (their `_count` is the number of requests), and who is waiting."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "coordinator_http_seconds",
            "From a request's head to its answer.",
            ("operation", "status"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "coordinator_http_waiting",
            "Requests that wait for an intent to settle.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._kept: dict[tuple[str, int], Histogram] = {}

    def answered(self, operation: str, status: int, seconds: float) -> None:
        histogram = self._kept.get((operation, status))
        if histogram is None:
            histogram = self._kept[operation, status] = self._seconds.labels(operation, str(status))
        histogram.observe(seconds)

    def waiting(self, count: int) -> None:
        self._waiting.set(count)

    def page(self) -> bytes:
        """Prometheus's text format."""
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
