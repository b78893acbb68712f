"""What a worker counts, folded per batch."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from repserve_server.channel.messages import CloseReason, Outcome
from repserve_server.metric_definition import DEVICE_LABELS, MetricDefinition
from repserve_server.statistics import Body, Duration, ModelStatistics

BATCHES = MetricDefinition(
    "repserve_batches",
    "counter",
    "Batches run, by why they were closed.",
    {**DEVICE_LABELS, "reason": ("full", "cheapest", "deadline", "alone")},
)
BATCH_SIZE = MetricDefinition(
    "repserve_batch_size",
    "histogram",
    "Images in a batch, padding not counted.",
    DEVICE_LABELS,
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
)
PADDING_IMAGES = MetricDefinition(
    "repserve_padding_images", "counter", "Rows of batches that held no image.", DEVICE_LABELS
)
COMPUTE_SECONDS = MetricDefinition(
    "repserve_compute_seconds", "histogram", "Time of a run on the device.", DEVICE_LABELS
)
DEVICE_BUSY_SECONDS = MetricDefinition(
    "repserve_device_busy_seconds", "counter", "Time that the device spent on runs.", DEVICE_LABELS
)
FAILED_RUNS = MetricDefinition(
    "repserve_failed_runs", "counter", "Runs that the device or its runtime failed.", DEVICE_LABELS
)
DROPPED_IMAGES = MetricDefinition(
    "repserve_dropped_images",
    "counter",
    "Images that left the queue without being run.",
    {**DEVICE_LABELS, "reason": ("expired", "cancelled")},
)
WAITING_IMAGES = MetricDefinition(
    "repserve_waiting_images",
    "gauge",
    "Images that wait for a run on the device: the length of its queue.",
    DEVICE_LABELS,
)
SLEEP_ERROR = MetricDefinition(
    "repserve_simulated_sleep_error_seconds",
    "gauge",
    "How late a simulated device woke up; not added up over runs.",
    {**DEVICE_LABELS, "worker": "its number on the device", "statistic": ("mean", "max")},
)
DEFINITIONS = (
    BATCHES,
    BATCH_SIZE,
    PADDING_IMAGES,
    COMPUTE_SECONDS,
    DEVICE_BUSY_SECONDS,
    FAILED_RUNS,
    DROPPED_IMAGES,
    WAITING_IMAGES,
    SLEEP_ERROR,
)


class WorkerMetrics:
    """The series of one worker; every one carries model, version and device."""

    def __init__(self, model: str, version: str, device: str, instance: int = 0) -> None:
        self.registry = CollectorRegistry()
        values = (model, version, device)
        registry = self.registry
        batches = BATCHES.counter(registry)
        self._batches: dict[CloseReason, Counter] = {
            reason: batches.labels(*values, reason.name.lower()) for reason in CloseReason if reason != CloseReason.NONE
        }
        dropped = DROPPED_IMAGES.counter(registry)
        self._dropped: dict[Outcome, Counter] = {
            outcome: dropped.labels(*values, outcome.name.lower()) for outcome in (Outcome.EXPIRED, Outcome.CANCELLED)
        }
        self._size = BATCH_SIZE.histogram(registry).labels(*values)
        self._padding = PADDING_IMAGES.counter(registry).labels(*values)
        self._compute = COMPUTE_SECONDS.histogram(registry).labels(*values)
        self._busy = DEVICE_BUSY_SECONDS.counter(registry).labels(*values)
        self._failed = FAILED_RUNS.counter(registry).labels(*values)
        self._waiting = WAITING_IMAGES.gauge(registry).labels(*values)
        self._sleep_error = SLEEP_ERROR.gauge(registry)
        self._values = (*values, str(instance))
        self._statistics = ModelStatistics(model, version)

    def count_batch(self, images: int, compiled: int, reason: CloseReason, seconds: float) -> None:
        """Count a run of ``images`` images, padded to ``compiled``."""
        self._batches[reason].inc()
        self._size.observe(images)
        self._compute.observe(seconds)
        self._busy.inc(seconds)
        self._statistics.batches.setdefault(images, Duration()).add(seconds)
        if compiled > images:
            self._padding.inc(compiled - images)

    def statistics(self) -> Body:
        """The runs by the number of images in them."""
        return [self._statistics.to_body()]

    def count_failed_run(self) -> None:
        """Count a run that gave no scores."""
        self._failed.inc()

    def count_unrun(self, images: int, outcome: Outcome) -> None:
        """Count images that were dropped from the queue."""
        self._dropped[outcome].inc(images)

    def set_waiting(self, images: int) -> None:
        """Show how many images wait."""
        self._waiting.set(images)

    def set_figures(self, figures: dict[str, float]) -> None:
        """Show what a simulated device says of its own error."""
        for statistic, value in figures.items():
            self._sleep_error.labels(*self._values, statistic).set(value)
