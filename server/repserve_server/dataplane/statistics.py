"""KServe's statistics of model versions, computed from the metrics of the whole server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from repserve_server.dataplane.metrics import STAGES
from repserve_server.metrics import Sample

SAMPLES = (
    "repserve_requests_total",
    "repserve_request_seconds_sum",
    "repserve_failed_request_seconds_total",
    "repserve_request_stage_seconds_total",
    "repserve_images_total",
    "repserve_last_inference_timestamp_seconds",
    "repserve_batches_total",
    "repserve_device_busy_seconds_total",
)
"""The series that the statistics are computed from."""


@dataclass
class Duration:
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    nanoseconds: int = 0


@dataclass
class ModelStatistics:
    """What became of a model version's requests while it was loaded, over all frontends and workers.

    Attributes:
        name: the model.
        version: its version.
        last_inference: milliseconds since the epoch; 0 for never.
        inferences: images that were classified.
        success: requests that succeeded, from arrival to response.
        fail: requests that failed, likewise.
        queue: for requests that succeeded: from being ready for the device until the batch started.
        compute_input: decoding, resizing and cropping.
        compute_infer: time on the device.
        compute_output: from the end of the batch to the response.
        batches: runs on the device by the number of images in them, padding not counted.
    """

    name: str
    version: str
    last_inference: int = 0
    inferences: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        """Add a sample of this version."""
        nanoseconds = round(value * 1e9)
        match name:
            case "repserve_requests_total":
                (self.success if labels["code"] == "OK" else self.fail).count += int(value)
            case "repserve_request_seconds_sum":
                self.success.nanoseconds += nanoseconds
            case "repserve_failed_request_seconds_total":
                self.success.nanoseconds -= nanoseconds
                self.fail.nanoseconds += nanoseconds
            case "repserve_request_stage_seconds_total":
                getattr(self, labels["stage"]).nanoseconds += nanoseconds
            case "repserve_images_total":
                self.inferences += int(value)
            case "repserve_last_inference_timestamp_seconds":
                self.last_inference = int(value * 1000)
            case "repserve_batches_total":
                self._batches(labels).count += int(value)
            case "repserve_device_busy_seconds_total":
                self._batches(labels).nanoseconds += nanoseconds

    def _batches(self, labels: dict[str, str]) -> Duration:
        return self.batches.setdefault(int(labels["batch_size"]), Duration())


def model_statistics(samples: Iterable[Sample]) -> list[ModelStatistics]:
    """The statistics of every model version that has samples."""
    found: dict[tuple[str, str], ModelStatistics] = {}
    for name, labels, value in samples:
        key = (labels["model"], labels["version"])
        if any(key):
            found.setdefault(key, ModelStatistics(*key)).add(name, labels, value)
    for entry in found.values():
        for stage in STAGES:
            getattr(entry, stage).count = entry.success.count
    return list(found.values())
