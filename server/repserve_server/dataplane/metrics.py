"""What a frontend counts."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from repserve_server.errors import RepServeError

REQUEST_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class QueueMetrics:
    """The series of one model's queue."""

    queue_seconds: Histogram
    poison_images: Counter


class FrontendMetrics:
    """The series of one frontend process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "repserve_requests",
            "Requests answered, by gRPC status code.",
            ("method", "code"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "repserve_request_seconds",
            "Time from a request's arrival to its answer.",
            ("method",),
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "repserve_decode_seconds",
            "Time to decode, resize and crop an encoded image.",
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.images = Counter("repserve_images", "Images classified.", registry=registry)
        self._rejected_images = Counter(
            "repserve_rejected_images",
            "Images that could not be decoded, by kind.",
            ("kind",),
            registry=registry,
        )
        self._rejected_requests = Counter(
            "repserve_rejected_requests",
            "Requests refused without work on the device, by reason.",
            ("reason",),
            registry=registry,
        )
        self._in_flight = Gauge(
            "repserve_requests_in_flight", "Requests taken and not answered yet.", registry=registry
        )
        self.reply_seconds = Histogram(
            "repserve_reply_seconds",
            "Time from the device's last answer to a request until the request's own.",
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        names = ("model", "version")
        self._queue_seconds = Histogram(
            "repserve_queue_seconds",
            "Time an image waited for the device.",
            names,
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._occupied = Gauge(
            "repserve_queue_images", "Images between admission and answer.", names, registry=registry
        )
        self._poison = Counter(
            "repserve_poison_images",
            "Images given up because they were on the device at two crashes.",
            names,
            registry=registry,
        )

    def for_queue(self, model: str, version: str) -> QueueMetrics:
        """The series of a model version's queue."""
        return QueueMetrics(
            self._queue_seconds.labels(model, version),
            self._poison.labels(model, version),
        )

    def count_rejection(self, error: RepServeError) -> None:
        """Count a request that was refused, if its error is a refusal."""
        if error.rejection:
            self._rejected_requests.labels(error.rejection).inc()

    def show(self, occupied: dict[tuple[str, str], int], in_flight: int) -> None:
        """Show how many images each queue holds, by model and version, and how many requests are not answered."""
        self._in_flight.set(in_flight)
        for (model, version), images in occupied.items():
            self._occupied.labels(model, version).set(images)

    def for_method(self, method: str) -> MethodMetrics:
        """The series of an RPC."""
        return MethodMetrics(self._requests, self._request_seconds.labels(method), method)

    def count_rejected_image(self, kind: str) -> None:
        """Count an image that was not accepted."""
        self._rejected_images.labels(kind).inc()


class MethodMetrics:
    """Counts the requests of one RPC."""

    def __init__(self, requests: Counter, seconds: Histogram, method: str) -> None:
        self._requests, self._seconds, self._method = requests, seconds, method
        self._by_code: dict[str, Counter] = {}

    def count(self, code: str, seconds: float) -> None:
        """Count a request that ended with this status code after ``seconds``."""
        series = self._by_code.get(code)
        if series is None:
            series = self._by_code[code] = self._requests.labels(self._method, code)
        series.inc()
        self._seconds.observe(seconds)
