"""What a worker counts, folded per batch."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from repserve_server.channel.messages import CloseReason, Outcome
from repserve_server.statistics import Body, Duration, ModelStatistics

BATCH_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class WorkerMetrics:
    """The series of one worker; every one carries model, version and device."""

    def __init__(self, model: str, version: str, device: str, instance: int = 0) -> None:
        self.registry = CollectorRegistry()
        names = ("model", "version", "device")
        values = (model, version, device)
        registry = self.registry
        batches = Counter(
            "repserve_batches", "Batches run, by why they were closed.", (*names, "reason"), registry=registry
        )
        self._batches: dict[CloseReason, Counter] = {
            reason: batches.labels(*values, reason.name.lower()) for reason in CloseReason if reason != CloseReason.NONE
        }
        dropped = Counter(
            "repserve_dropped_images",
            "Images that left the queue without being run.",
            (*names, "reason"),
            registry=registry,
        )
        self._dropped: dict[Outcome, Counter] = {
            outcome: dropped.labels(*values, outcome.name.lower()) for outcome in (Outcome.EXPIRED, Outcome.CANCELLED)
        }
        self._padding = Counter(
            "repserve_padding_images", "Rows of batches that held no image.", names, registry=registry
        ).labels(*values)
        self._size = Histogram(
            "repserve_batch_size",
            "Images in a batch, padding not counted.",
            names,
            buckets=BATCH_SIZES,
            registry=registry,
        ).labels(*values)
        self._compute = Histogram(
            "repserve_compute_seconds",
            "Time of a run on the device.",
            names,
            buckets=BATCH_SECONDS,
            registry=registry,
        ).labels(*values)
        self._busy = Counter(
            "repserve_device_busy_seconds", "Time that the device spent on runs.", names, registry=registry
        ).labels(*values)
        self._sleep_error = Gauge(
            "repserve_simulated_sleep_error_seconds",
            "How late a simulated device woke up; not added up over runs.",
            (*names, "instance", "statistic"),
            registry=registry,
        )
        self._failed = Counter(
            "repserve_failed_runs", "Runs that the device or its runtime failed.", names, registry=registry
        ).labels(*values)
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

    def set_figures(self, figures: dict[str, float]) -> None:
        """Show what a simulated device says of its own error."""
        for statistic, value in figures.items():
            self._sleep_error.labels(*self._values, statistic).set(value)
