"""The metrics of a worker, counted once a batch."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter

from repserve_server.channel.messages import CloseReason, Outcome
from repserve_server.metric_definition import DEVICE_LABELS, MetricDefinition

BATCHES = MetricDefinition(
    "repserve_batches",
    "counter",
    "Batches run, by why they were closed and by size, without padding.",
    {**DEVICE_LABELS, "reason": ("full", "cheapest", "deadline", "alone"), "batch_size": ""},
)
BATCH_SIZE = MetricDefinition(
    "repserve_batch_size",
    "histogram",
    "Images in a batch, without padding.",
    DEVICE_LABELS,
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
)
PADDING_IMAGES = MetricDefinition(
    "repserve_padding_images", "counter", "Rows of batches that held no image.", DEVICE_LABELS
)
COMPUTE_SECONDS = MetricDefinition(
    "repserve_compute_seconds", "histogram", "Time that the device took to run a batch.", DEVICE_LABELS
)
DEVICE_BUSY_SECONDS = MetricDefinition(
    "repserve_device_busy_seconds",
    "counter",
    "Time that the device spent running batches, by their size without padding.",
    {**DEVICE_LABELS, "batch_size": ""},
)
FAILED_RUNS = MetricDefinition(
    "repserve_failed_runs", "counter", "Batches that the device or its runtime failed to run.", DEVICE_LABELS
)
DROPPED_IMAGES = MetricDefinition(
    "repserve_dropped_images",
    "counter",
    "Images dropped from the queue without being run, by reason.",
    {**DEVICE_LABELS, "reason": ("expired", "cancelled")},
)
WAITING_IMAGES = MetricDefinition(
    "repserve_waiting_images",
    "gauge",
    "Images waiting for the device: the length of its queue.",
    DEVICE_LABELS,
)
SLEEP_ERROR = MetricDefinition(
    "repserve_simulated_sleep_error_seconds",
    "gauge",
    "How late a simulated device woke up; per worker, not accumulated.",
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


class _SizeMetrics(NamedTuple):
    """The series of batches of one size."""

    batches: dict[CloseReason, Counter]
    busy: Counter


class WorkerMetrics:
    """The series of one worker."""

    def __init__(self, model: str, version: str, device: str, instance: int = 0) -> None:
        self.registry = CollectorRegistry()
        values = (model, version, device)
        registry = self.registry
        self._batches = BATCHES.counter(registry)
        self._busy = DEVICE_BUSY_SECONDS.counter(registry)
        self._sizes: dict[int, _SizeMetrics] = {}
        dropped = DROPPED_IMAGES.counter(registry)
        self._dropped: dict[Outcome, Counter] = {
            outcome: dropped.labels(*values, outcome.name.lower()) for outcome in (Outcome.EXPIRED, Outcome.CANCELLED)
        }
        self._size = BATCH_SIZE.histogram(registry).labels(*values)
        self._padding = PADDING_IMAGES.counter(registry).labels(*values)
        self._compute = COMPUTE_SECONDS.histogram(registry).labels(*values)
        self._failed = FAILED_RUNS.counter(registry).labels(*values)
        self._waiting = WAITING_IMAGES.gauge(registry).labels(*values)
        self._sleep_error = SLEEP_ERROR.gauge(registry)
        self._values, self._instance = values, str(instance)

    def count_batch(self, images: int, compiled: int, reason: CloseReason, seconds: float) -> None:
        """Count a run of ``images`` images, padded to ``compiled``."""
        size = self._sizes.get(images) or self._make_size(images)
        size.batches[reason].inc()
        size.busy.inc(seconds)
        self._size.observe(images)
        self._compute.observe(seconds)
        if compiled > images:
            self._padding.inc(compiled - images)

    def count_failed_run(self) -> None:
        """Count a batch that failed."""
        self._failed.inc()

    def count_unrun(self, images: int, outcome: Outcome) -> None:
        """Count images dropped from the queue."""
        self._dropped[outcome].inc(images)

    def set_waiting(self, images: int) -> None:
        """Show how many images wait."""
        self._waiting.set(images)

    def set_figures(self, figures: dict[str, float]) -> None:
        """Show how late a simulated device woke up."""
        for statistic, value in figures.items():
            self._sleep_error.labels(*self._values, self._instance, statistic).set(value)

    def _make_size(self, images: int) -> _SizeMetrics:
        batches: dict[CloseReason, Counter] = {
            reason: self._batches.labels(*self._values, reason.name.lower(), images)
            for reason in CloseReason
            if reason != CloseReason.NONE
        }
        made = self._sizes[images] = _SizeMetrics(batches, self._busy.labels(*self._values, images))
        return made
