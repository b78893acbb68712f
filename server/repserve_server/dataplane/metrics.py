"""What a frontend counts."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from repserve_server.errors import Status
from repserve_server.metric_definition import QUEUE_LABELS, MetricDefinition

METHODS = ("Classify", "ClassifyStream", "ModelInfer", "ModelStreamInfer", "ModelInfer over HTTP")
CODES = ("OK", "CANCELLED", *(status.name for status in Status))
REQUESTS = MetricDefinition(
    "repserve_requests",
    "counter",
    "Requests ended, by gRPC status code, CANCELLED where the client gave up; each request of a stream counts.",
    {"method": METHODS, "code": CODES},
)
REQUEST_SECONDS = MetricDefinition(
    "repserve_request_seconds", "histogram", "Time from a request's arrival to its answer.", {"method": METHODS}
)
REJECTED_REQUESTS = MetricDefinition(
    "repserve_rejected_requests",
    "counter",
    "Requests refused without work on the device, by reason.",
    {"reason": ("queue_full", "deadline", "image", "invalid", "unknown_model", "not_ready", "draining")},
)
REQUESTS_IN_FLIGHT = MetricDefinition("repserve_requests_in_flight", "gauge", "Requests taken and not answered yet.")
IMAGES = MetricDefinition("repserve_images", "counter", "Images classified.")
DECODE_SECONDS = MetricDefinition(
    "repserve_decode_seconds", "histogram", "Time to decode, resize and crop an encoded image."
)
REJECTED_IMAGES = MetricDefinition(
    "repserve_rejected_images",
    "counter",
    "Images that were not accepted, by kind of fault.",
    {"kind": ("empty", "unknown_format", "unsupported_format", "animated", "corrupt", "too_large")},
)
QUEUE_IMAGES = MetricDefinition(
    "repserve_queue_images",
    "gauge",
    "Images between admission and answer: being decoded, waiting, or on the device.",
    QUEUE_LABELS,
)
QUEUE_SECONDS = MetricDefinition(
    "repserve_queue_seconds",
    "histogram",
    "Time from an image's being ready for the device until its batch started.",
    QUEUE_LABELS,
)
REPLY_SECONDS = MetricDefinition(
    "repserve_reply_seconds",
    "histogram",
    "Time from the device's last answer to a request until the request's own.",
)
POISON_IMAGES = MetricDefinition(
    "repserve_poison_images",
    "counter",
    "Images given up because they were on the device at two crashes.",
    QUEUE_LABELS,
)
DEFINITIONS = (
    REQUESTS,
    REQUEST_SECONDS,
    REJECTED_REQUESTS,
    REQUESTS_IN_FLIGHT,
    IMAGES,
    DECODE_SECONDS,
    REJECTED_IMAGES,
    QUEUE_IMAGES,
    QUEUE_SECONDS,
    REPLY_SECONDS,
    POISON_IMAGES,
)


@dataclass(frozen=True)
class QueueMetrics:
    """The series of one model's queue."""

    queue_seconds: Histogram
    poison_images: Counter


class FrontendMetrics:
    """The series of one frontend process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = REQUESTS.counter(registry)
        self._request_seconds = REQUEST_SECONDS.histogram(registry)
        self._rejected_requests = REJECTED_REQUESTS.counter(registry)
        self._in_flight = REQUESTS_IN_FLIGHT.gauge(registry)
        self.images = IMAGES.counter(registry)
        self.decode_seconds = DECODE_SECONDS.histogram(registry)
        self._rejected_images = REJECTED_IMAGES.counter(registry)
        self._occupied = QUEUE_IMAGES.gauge(registry)
        self._queue_seconds = QUEUE_SECONDS.histogram(registry)
        self.reply_seconds = REPLY_SECONDS.histogram(registry)
        self._poison = POISON_IMAGES.counter(registry)

    def for_queue(self, model: str, version: str) -> QueueMetrics:
        """The series of a model version's queue."""
        return QueueMetrics(
            self._queue_seconds.labels(model, version),
            self._poison.labels(model, version),
        )

    def forget_queue(self, model: str, version: str) -> None:
        """Drop the series of a model version that is served no more."""
        for metric in (self._queue_seconds, self._poison):
            metric.remove(model, version)

    def show(self, occupied: dict[tuple[str, str], int], in_flight: int) -> None:
        """Show how many images each queue holds, by model and version, and how many requests are not answered."""
        self._in_flight.set(in_flight)
        self._occupied.clear()
        for (model, version), images in occupied.items():
            self._occupied.labels(model, version).set(images)

    def for_method(self, method: str) -> MethodMetrics:
        """The series of an RPC."""
        return MethodMetrics(self._requests, self._request_seconds.labels(method), self._rejected_requests, method)

    def count_rejected_image(self, kind: str) -> None:
        """Count an image that was not accepted."""
        self._rejected_images.labels(kind).inc()


class MethodMetrics:
    """Counts the requests of one RPC."""

    def __init__(self, requests: Counter, seconds: Histogram, rejected: Counter, method: str) -> None:
        self._requests, self._seconds, self._rejected, self.method = requests, seconds, rejected, method
        self._by_code: dict[str, Counter] = {"OK": requests.labels(method, "OK")}

    def count(self, code: str, seconds: float, rejection: str = "") -> None:
        """Count a request that ended with this status code after ``seconds``, and why it was refused if it was."""
        if rejection:
            self._rejected.labels(rejection).inc()
        series = self._by_code.get(code)
        if series is None:
            series = self._by_code[code] = self._requests.labels(self.method, code)
        series.inc()
        self._seconds.observe(seconds)
