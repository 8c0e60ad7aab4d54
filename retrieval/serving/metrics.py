"""What Prometheus reads of the service: requests, times, queues, batches, tokens.

Enters: what happened. Leaves: the text of `/metrics`. No query and no passage is ever a label.

    Metrics().answered("/v1/search", 200, seconds=0.02)
"""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second series for each, which nobody reads
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "blockseek_requests",
            "Requests by route and status; 499: the client had gone.",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "blockseek_request_seconds",
            "From the request's first byte to the answer's last.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "blockseek_batch_requests",
            "Requests that were computed together.",
            ["worker"],
            buckets=_BATCHES,
            registry=self._registry,
        )
        self._tokens = Counter(
            "blockseek_tokens",
            "Tokens of documents and texts that clients sent to be read.",
            ["route"],
            registry=self._registry,
        )
        self._queue = Gauge(
            "blockseek_queue_requests", "Requests that wait.", ["worker"], registry=self._registry
        )
        self._generation = Gauge(
            "blockseek_index_generation",
            "How many states of the index were served.",
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request has its answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batched(self, worker: str, count: int) -> None:
        """A worker takes `count` requests at once."""
        self._batches.labels(worker).observe(count)

    def read_tokens(self, route: str, count: int) -> None:
        """A request had `count` tokens read."""
        self._tokens.labels(route).inc(count)

    def watch(self, worker: str, length: Callable[[], float]) -> None:
        """Tell `length()` as the queue of `worker`."""
        self._queue.labels(worker).set_function(length)

    def swapped(self, generation: int) -> None:
        """Another state of the index is served."""
        self._generation.set(generation)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
