"""A replay's metrics for Prometheus: on a port while it runs, on a Pushgateway at its end."""

from __future__ import annotations

import contextlib
import socket
from http.client import HTTPException
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry, push_to_gateway, start_http_server
from prometheus_client.registry import Collector

from repserve_bench.errors import BenchError
from repserve_bench.progress import share_done
from repserve_server.metric_definition import SECONDS, MetricDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from repserve_bench.tally import Tally

JOB = "repserve_bench"
MODEL = {"model": ""}
REQUESTS = MetricDefinition(
    "repserve_bench_requests",
    "counter",
    "Requests that ended, by gRPC status code.",
    {**MODEL, "code": "gRPC status names, such as OK"},
)
IMAGES = MetricDefinition("repserve_bench_images", "counter", "Images answered.", MODEL)
RETRIES = MetricDefinition("repserve_bench_retries", "counter", "Retried attempts.", MODEL)
FPS = MetricDefinition("repserve_bench_fps", "gauge", "Images answered per second since the start.", MODEL)
PROGRESS = MetricDefinition("repserve_bench_progress_ratio", "gauge", "How much of the replay is done, 0 to 1.", MODEL)
ELAPSED = MetricDefinition("repserve_bench_elapsed_seconds", "gauge", "Time since the start of the replay.", MODEL)
SEND_LAG = MetricDefinition(
    "repserve_bench_send_lag_seconds",
    "gauge",
    "Longest time by which the client sent a request later than due.",
    MODEL,
)
TOP1 = MetricDefinition(
    "repserve_bench_top1_ratio",
    "gauge",
    "Share of the labelled images so far, 0 to 1, whose best class is right; missing where it would mean nothing.",
    MODEL,
)
TOP5 = MetricDefinition(
    "repserve_bench_top5_ratio",
    "gauge",
    "Share of the labelled images so far, 0 to 1, with the right class among the best five.",
    MODEL,
)
LATENCY = MetricDefinition(
    "repserve_bench_latency_seconds",
    "histogram",
    "Time to the answer: from sending in a closed loop, from when the request was due in an open one.",
    MODEL,
)
DEFINITIONS = (REQUESTS, IMAGES, RETRIES, FPS, PROGRESS, ELAPSED, SEND_LAG, TOP1, TOP5, LATENCY)
PUSH_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0


class MetricsError(BenchError):
    """The port is in use, or the Pushgateway does not accept the metrics."""


class BenchCollector(Collector):
    """The counts of a replay so far.

    Args:
        model: Name of the model.
        requests: Requests that the replay makes at least.
        seconds: Seconds that it lasts at least.
        accuracy: Whether the accuracy means anything.
    """

    def __init__(self, model: str, *, requests: int, seconds: float, accuracy: bool) -> None:
        self.model = model
        self._labels = [model]
        self._requests, self._seconds, self._accuracy = requests, seconds, accuracy
        self._families: list[Metric] = []
        self._finished = False
        self._latencies_seen = self._given_up_seen = 0
        self._latency_sum = 0.0
        self._buckets = np.zeros(len(SECONDS) + 1, np.int64)

    def __call__(self, tally: Tally, elapsed: float) -> None:
        """Take the counts, some five times a second; scrapes come from other threads and see the last ones."""
        fresh = np.array(tally.latencies[self._latencies_seen :] + tally.given_up[self._given_up_seen :])
        self._latencies_seen, self._given_up_seen = len(tally.latencies), len(tally.given_up)
        self._latency_sum += float(fresh.sum())
        np.add.at(self._buckets, np.searchsorted(SECONDS, fresh), 1)
        self._families = list(self._describe(tally, elapsed))

    def finish(self, tally: Tally, elapsed: float) -> None:
        """Take the counts of a replay that is complete, even if it ended early because it was stable."""
        self._finished = True
        self(tally, elapsed)

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        return iter(self._families)

    def _describe(self, tally: Tally, elapsed: float) -> Iterator[Metric]:
        requests = REQUESTS.counter_family()
        for code, count in tally.statuses.items():
            requests.add_metric([*self._labels, code], count)
        yield requests
        yield self._single(IMAGES, tally.images)
        yield self._single(RETRIES, tally.retries.total())
        yield self._single(FPS, tally.images / elapsed if elapsed else 0)
        done = share_done(tally, elapsed, requests=self._requests, seconds=self._seconds)
        yield self._single(PROGRESS, 1.0 if self._finished else done)
        yield self._single(ELAPSED, elapsed)
        yield self._single(SEND_LAG, tally.worst_send_lag)
        for definition, share in ((TOP1, tally.accuracy.top1), (TOP5, tally.accuracy.top5)):
            if self._accuracy and share is not None:
                yield self._single(definition, share)
        latency = LATENCY.histogram_family()
        sums = np.cumsum(self._buckets)
        edges = [*(f"{edge}" for edge in SECONDS), "+Inf"]
        buckets = [(edge, float(count)) for edge, count in zip(edges, sums, strict=True)]
        latency.add_metric(self._labels, buckets, self._latency_sum)
        yield latency

    def _single(self, definition: MetricDefinition, value: float) -> Metric:
        family = definition.counter_family() if definition.kind == "counter" else definition.gauge_family()
        family.add_metric(self._labels, value)
        return family


@contextlib.contextmanager
def exported(collector: BenchCollector, port: int | None) -> Iterator[str | None]:
    """Serve the collector's metrics on a port of 0.0.0.0 inside the block.

    Args:
        collector: The metrics.
        port: The port, 0 for a free one; None serves nothing.

    Yields:
        URL of the metrics, or None.

    Raises:
        MetricsError: The port is in use.
    """
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, registry=_registry(collector))
    except OSError as error:
        raise MetricsError(f"cannot serve metrics on port {port}: {error}") from error
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(STOP_TIMEOUT)


def push(collector: BenchCollector, url: str) -> None:
    """Push the collector's metrics to a Pushgateway, in place of this machine's last run of the model.

    Raises:
        MetricsError: The Pushgateway does not accept them.
    """
    group = {"instance": socket.gethostname(), "model": collector.model}
    try:
        push_to_gateway(url, job=JOB, grouping_key=group, registry=_registry(collector), timeout=PUSH_TIMEOUT)
    except (OSError, ValueError, HTTPException) as error:
        raise MetricsError(f"pushing metrics to {url} failed: {error}") from error


def _registry(collector: BenchCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
