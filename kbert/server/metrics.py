"""Count requests and time them, for Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)


class Metrics:
    """The figures of one server; each has a registry of its own, so that a process may hold several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("kbert_requests", "Requests, by API and outcome.", ["api", "code"], **kept)
        self.seconds = Histogram("kbert_request_seconds", "Time to answer.", ["api"], buckets=SECONDS, **kept)
        self.queued = Histogram("kbert_queue_seconds", "Time in the queue.", buckets=SECONDS, **kept)
        self.waiting = Gauge("kbert_queue_requests", "Requests that wait.", **kept)
        self.batch_rows = Histogram("kbert_batch_rows", "Rows answered at once.", buckets=POWERS, **kept)
        self.batch_requests = Histogram("kbert_batch_requests", "Requests answered at once.", buckets=POWERS, **kept)
        self.version = Gauge("kbert_model_version", "The newest version that answers; 0 for none.", **kept)
        ProcessCollector(registry=self.registry)

    def page(self) -> bytes:
        """Return the figures in Prometheus's text format."""
        return generate_latest(self.registry)
