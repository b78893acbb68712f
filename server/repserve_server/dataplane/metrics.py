"""The metrics of a frontend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from repserve_server.errors import Status
from repserve_server.metric_definition import MODEL_LABELS, Labels, MetricDefinition

Method: TypeAlias = tuple[str, str]
"""A protocol and the name of an RPC; over HTTP, of the equivalent RPC."""
METHODS: tuple[Method, ...] = (
    ("grpc", "Classify"),
    ("grpc", "ClassifyStream"),
    ("grpc", "ModelInfer"),
    ("grpc", "ModelStreamInfer"),
    ("http", "ModelInfer"),
)
CODES = ("OK", "CANCELLED", *(status.name for status in Status))
REJECTIONS = ("queue_full", "deadline", "image", "invalid", "unknown_model", "not_ready", "draining")
FAULTS = ("empty", "unknown_format", "unsupported_format", "animated", "corrupt", "too_large")
STAGES = ("queue", "compute_input", "compute_infer", "compute_output")

_METHOD_LABELS: Labels = {
    **MODEL_LABELS,
    "protocol": ("grpc", "http"),
    "method": ("Classify", "ClassifyStream", "ModelInfer", "ModelStreamInfer"),
}
REQUESTS = MetricDefinition(
    "repserve_requests",
    "counter",
    "Requests by gRPC status code; CANCELLED if the client gave up. Each request of a stream counts.",
    {**_METHOD_LABELS, "code": CODES},
)
REQUEST_SECONDS = MetricDefinition(
    "repserve_request_seconds", "histogram", "Time from a request's arrival to its response.", _METHOD_LABELS
)
FAILED_REQUEST_SECONDS = MetricDefinition(
    "repserve_failed_request_seconds", "counter", "Time spent on requests that failed.", MODEL_LABELS
)
REQUEST_STAGE_SECONDS = MetricDefinition(
    "repserve_request_stage_seconds",
    "counter",
    "Time that successful requests spent in each stage; if they had several batches, in the last.",
    {**MODEL_LABELS, "stage": STAGES},
)
REJECTED_REQUESTS = MetricDefinition(
    "repserve_rejected_requests",
    "counter",
    "Requests rejected before they reached the device, by reason.",
    {**MODEL_LABELS, "reason": REJECTIONS},
)
REQUESTS_IN_FLIGHT = MetricDefinition("repserve_requests_in_flight", "gauge", "Requests accepted and not yet answered.")
IMAGES = MetricDefinition("repserve_images", "counter", "Images classified.", MODEL_LABELS)
LAST_INFERENCE = MetricDefinition(
    "repserve_last_inference_timestamp_seconds",
    "gauge",
    "When a request was last answered successfully, as Unix time; 0 for never.",
    MODEL_LABELS,
)
DECODE_SECONDS = MetricDefinition(
    "repserve_decode_seconds", "histogram", "Time to decode, resize and crop an encoded image.", MODEL_LABELS
)
REJECTED_IMAGES = MetricDefinition(
    "repserve_rejected_images", "counter", "Images rejected, by kind of fault.", {**MODEL_LABELS, "kind": FAULTS}
)
QUEUE_IMAGES = MetricDefinition(
    "repserve_queue_images",
    "gauge",
    "Images between admission and response: being decoded, waiting, or on the device.",
    MODEL_LABELS,
)
QUEUE_SECONDS = MetricDefinition(
    "repserve_queue_seconds", "histogram", "Time an image waited for its batch to start, once decoded.", MODEL_LABELS
)
REPLY_SECONDS = MetricDefinition(
    "repserve_reply_seconds", "histogram", "Time from the end of a request's last batch to its response.", MODEL_LABELS
)
POISON_IMAGES = MetricDefinition(
    "repserve_poison_images",
    "counter",
    "Images given up because workers crashed twice while running them.",
    MODEL_LABELS,
)
DEFINITIONS = (
    REQUESTS,
    REQUEST_SECONDS,
    FAILED_REQUEST_SECONDS,
    REQUEST_STAGE_SECONDS,
    REJECTED_REQUESTS,
    REQUESTS_IN_FLIGHT,
    IMAGES,
    LAST_INFERENCE,
    DECODE_SECONDS,
    REJECTED_IMAGES,
    QUEUE_IMAGES,
    QUEUE_SECONDS,
    REPLY_SECONDS,
    POISON_IMAGES,
)


class RequestMetrics:
    """The series of the requests to one model version, or to unknown models.

    Those of every code and reason start at 0, so that the first one counted is an increase.
    """

    def __init__(self, families: FrontendMetrics, *model: str) -> None:
        self.model = model
        self._families = families
        self.counts = {method: dict.fromkeys(CODES, 0) for method in METHODS}
        """How many requests ended, by method and code."""
        self._seconds: dict[Method, Histogram] = {}
        self._failed_seconds = families.failed_request_seconds.labels(*model)
        self._rejected = {reason: families.rejected_requests.labels(*model, reason) for reason in REJECTIONS}

    def begin(self, method: Method) -> None:
        """Make the series that a method gets only once it is used; a histogram has many."""
        if method not in self._seconds:
            self._seconds[method] = self._families.request_seconds.labels(*self.model, *method)

    def end(self, method: Method, code: str, seconds: float, rejection: str) -> None:
        """Count a request that has begun and ended; ``rejection`` is empty if it was not rejected."""
        self.counts[method][code] += 1
        self._seconds[method].observe(seconds)
        if code != "OK":
            self._failed_seconds.inc(seconds)
        if rejection:
            self._rejected[rejection].inc()


class ModelMetrics(RequestMetrics):
    """All series of one model version."""

    def __init__(self, families: FrontendMetrics, model: str, version: str) -> None:
        super().__init__(families, model, version)
        self.images = families.images.labels(model, version)
        self.decode_seconds = families.decode_seconds.labels(model, version)
        self.queue_seconds = families.queue_seconds.labels(model, version)
        self.reply_seconds = families.reply_seconds.labels(model, version)
        self.stage_seconds = [0.0] * len(STAGES)
        """Seconds not counted yet, in the order of ``STAGES``; four counters would add a microsecond to a request."""
        self._stages = [families.stage_seconds.labels(model, version, stage) for stage in STAGES]
        self.rejected_images = {fault: families.rejected_images.labels(model, version, fault) for fault in FAULTS}
        self.poison_images = families.poison_images.labels(model, version)
        self._last_inference = families.last_inference.labels(model, version)
        self.last_inference = 0.0
        """When a request was last answered, a time of ``time.monotonic``; 0 for never."""

    def show(self) -> None:
        """Bring the series up to date."""
        for counter, seconds in zip(self._stages, self.stage_seconds, strict=True):
            counter.inc(seconds)
        self.stage_seconds = [0.0] * len(STAGES)
        if self.last_inference:
            self._last_inference.set(self.last_inference + time.time() - time.monotonic())


class FrontendMetrics(Collector):
    """The series of one frontend process.

    It collects the counts of requests itself: of so many series, a counter of the library's for each costs more.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        registry.register(self)
        self.request_seconds = REQUEST_SECONDS.histogram(registry)
        self.failed_request_seconds = FAILED_REQUEST_SECONDS.counter(registry)
        self.stage_seconds = REQUEST_STAGE_SECONDS.counter(registry)
        self.rejected_requests = REJECTED_REQUESTS.counter(registry)
        self._in_flight = REQUESTS_IN_FLIGHT.gauge(registry)
        self.images = IMAGES.counter(registry)
        self.last_inference = LAST_INFERENCE.gauge(registry)
        self.decode_seconds = DECODE_SECONDS.histogram(registry)
        self.rejected_images = REJECTED_IMAGES.counter(registry)
        self._queue_images = QUEUE_IMAGES.gauge(registry)
        self.queue_seconds = QUEUE_SECONDS.histogram(registry)
        self.reply_seconds = REPLY_SECONDS.histogram(registry)
        self.poison_images = POISON_IMAGES.counter(registry)
        self.unknown = RequestMetrics(self, "", "")
        """The series of requests to unknown models."""
        for method in METHODS:
            self.unknown.begin(method)
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def for_model(self, model: str, version: str) -> ModelMetrics:
        """Return the series of a model version, and make them if there are none."""
        key = (model, version)
        if key not in self._models:
            self._models[key] = ModelMetrics(self, *key)
        return self._models[key]

    def find(self, model: str, version: str) -> RequestMetrics:
        """Return the series for a request whose model is not ready: the model's if it has any, never new ones."""
        known = [found for key, found in self._models.items() if model == key[0] and version in ("", key[1])]
        return known[-1] if known else self.unknown

    def forget_model(self, model: str, version: str) -> None:
        """Drop the series of a model version that is unloaded."""
        del self._models[model, version]
        for family in (
            self.request_seconds,
            self.failed_request_seconds,
            self.stage_seconds,
            self.rejected_requests,
            self.images,
            self.last_inference,
            self.decode_seconds,
            self.rejected_images,
            self.queue_seconds,
            self.reply_seconds,
            self.poison_images,
        ):
            family.remove_by_labels({"model": model, "version": version})

    @override
    def collect(self) -> Iterator[Metric]:
        """Return the requests by model, method and code."""
        family = REQUESTS.counter_family()
        for metrics in (self.unknown, *self._models.values()):
            for method, counts in metrics.counts.items():
                for code, count in counts.items():
                    family.add_metric((*metrics.model, *method, code), count)
        yield family

    def show(self, occupied: dict[tuple[str, str], int], in_flight: int) -> None:
        """Bring all series up to date.

        Args:
            occupied: how many images each queue holds, by model and version.
            in_flight: how many requests are not answered yet.
        """
        self._in_flight.set(in_flight)
        self._queue_images.clear()
        for (model, version), images in occupied.items():
            self._queue_images.labels(model, version).set(images)
        for metrics in self._models.values():
            metrics.show()
