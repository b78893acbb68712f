"""Triton's statistics of model versions, computed from the metrics of the whole server."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from repserve_server.dataplane.metrics import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from repserve_server.metrics import Sample
    from repserve_server.protocols.kserve.documents import ModelStatistics, StatisticDuration

VersionKey: TypeAlias = tuple[str, str]
"""A model and its version."""
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


def model_statistics(samples: Iterable[Sample]) -> dict[VersionKey, ModelStatistics]:
    """Compute the statistics of every model version that has samples."""
    found: dict[VersionKey, ModelStatistics] = {}
    for name, labels, value in samples:
        key = (labels["model"], labels["version"])
        if any(key):
            _add(found.setdefault(key, empty_statistics(*key)), name, labels, value)
    for entry in found.values():
        success = entry["inference_stats"]["success"]
        # A frontend collects its series one after the other: a request may have failed between two of them.
        success["ns"] = max(0, success["ns"])
        for stage in STAGES:
            entry["inference_stats"][stage]["count"] = success["count"]
        entry["batch_stats"].sort(key=lambda batch: batch["batch_size"])
    return found


def empty_statistics(name: str, version: str) -> ModelStatistics:
    """Return the statistics of a version that has had no request."""
    return {
        "name": name,
        "version": version,
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": {outcome: {"count": 0, "ns": 0} for outcome in ("success", "fail", *STAGES)},
        "batch_stats": [],
    }


def _add(entry: ModelStatistics, name: str, labels: dict[str, str], value: float) -> None:
    stats, nanoseconds = entry["inference_stats"], round(value * 1e9)
    match name:
        case "repserve_requests_total":
            stats["success" if labels["code"] == "OK" else "fail"]["count"] += int(value)
        case "repserve_request_seconds_sum":
            stats["success"]["ns"] += nanoseconds
        case "repserve_failed_request_seconds_total":
            stats["success"]["ns"] -= nanoseconds
            stats["fail"]["ns"] += nanoseconds
        case "repserve_request_stage_seconds_total":
            stats[labels["stage"]]["ns"] += nanoseconds
        case "repserve_images_total":
            entry["inference_count"] += int(value)
        case "repserve_last_inference_timestamp_seconds":
            entry["last_inference"] = int(value * 1000)
        case "repserve_batches_total":
            entry["execution_count"] += int(value)
            _runs(entry, labels)["count"] += int(value)
        case "repserve_device_busy_seconds_total":
            _runs(entry, labels)["ns"] += nanoseconds


def _runs(entry: ModelStatistics, labels: dict[str, str]) -> StatisticDuration:
    """Return the runs of the batch size that a sample is of."""
    size = int(labels["batch_size"])
    for batch in entry["batch_stats"]:
        if batch["batch_size"] == size:
            return batch["compute_infer"]
    runs: StatisticDuration = {"count": 0, "ns": 0}
    entry["batch_stats"].append({"batch_size": size, "compute_infer": runs})
    return runs
