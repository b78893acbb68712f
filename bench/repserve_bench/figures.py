"""The one list of a measurement's figures: JSON, tables, Markdown, HTML and comparisons are all made from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from repserve_bench.column import (
    COUNT,
    CPU_MS,
    FPS,
    MILLISECONDS,
    NUMBER,
    PERCENT,
    RATE,
    Column,
    make_document,
)
from repserve_bench.environment import describe_environment
from repserve_bench.predictions import accuracy_by_class, worst_mistakes
from repserve_bench.report_file import RUN, SCHEMA_VERSION
from repserve_bench.served_model import describe_instances, model_json
from repserve_bench.tally import histogram

if TYPE_CHECKING:
    from repserve_bench.column import Better, Noise
    from repserve_bench.load_messages import LoadSettings
    from repserve_bench.measurement import Measurement
    from repserve_client.results import ModelInfo

CLIENT_CPU = "client CPU per request"


def _classes(found: Measurement) -> list[dict[str, object]]:
    counted = {} if found.accuracy_missing else accuracy_by_class(found.dataset.samples, found.result.predictions)
    names = found.class_names
    return [
        {"index": index, "label": names.get(index, ""), "images": own.images, "top1": own.top1, "top5": own.top5}
        for index, own in counted.items()
    ]


def _mistakes(found: Measurement) -> list[dict[str, Any]]:
    if found.accuracy_missing:
        return []
    return worst_mistakes(found.dataset.samples, found.result.predictions, found.class_names)


def _disagreement(found: Measurement) -> dict[str, object] | None:
    other = found.disagreement
    if other is None:
        return None
    return {"images": other.images, "share": other.share, "different": list(other.different), "text": other.text}


def _dataset(found: Measurement) -> dict[str, object]:
    return {
        "images": len(found.dataset.samples),
        "labelled": found.dataset.labelled,
        "images_without_label": found.dataset.images_without_label,
        "labels_without_image": found.dataset.labels_without_image,
    }


def _stability(found: Measurement) -> dict[str, object]:
    stability = found.result.stability
    return {
        "stable": stability.stable,
        "complaint": stability.complaint,
        "window_seconds": stability.window_seconds,
        "windows": [asdict(window) for window in stability.windows],
    }


def _client(found: Measurement) -> dict[str, object]:
    result, tally = found.result, found.tally
    return {
        "processes": result.processes,
        "cpu_seconds": result.cpu_seconds,
        "busiest_core_share": result.busiest_share,
        "requests_made_in_advance": result.requests_kept,
        "mean_send_lag_seconds": found.mean_send_lag,
        "worst_send_lag_seconds": tally.worst_send_lag,
        "worst_hold_seconds": tally.worst_hold,
    }


def _percentile(name: str, percent: float, better: Better = "lower") -> Column:
    noise: Noise = "p50" if name == "p50" else "p99"

    def get(found: Measurement) -> float | None:
        return found.tally.percentile(percent)

    return Column(f"latency_seconds/{name}", name, get, MILLISECONDS, better=better, noise=noise)


def _stage(name: str, noise: Noise) -> Column:
    """Return the column of a stage's mean time for an image; None where the server reports no stages."""

    def get(found: Measurement) -> float | None:
        return found.tally.mean_per_image(getattr(found.tally, f"{name}_seconds"))

    key = f"mean_{name}_seconds"
    return Column(key, f"mean {name}", get, MILLISECONDS, optional=True, better="lower", noise=noise)


COLUMNS = (
    Column("dataset", get=_dataset, detail=True),
    Column("interrupted", get="result.interrupted", detail=True),
    Column("simulated", get="simulated"),
    Column("devices", get=lambda found: describe_instances(found.model)["devices"]),
    Column("device", "device", "device"),
    Column("answered_version", "model version", "version"),
    Column("load", "load", "load"),
    Column("concurrency", "in flight", "settings.concurrency", COUNT),
    Column("requests", "requests", "tally.requests", COUNT),
    Column("images", "images answered", "tally.images", COUNT),
    Column("elapsed_seconds", "seconds", "result.elapsed", NUMBER),
    Column("fps", "throughput", "result.fps", FPS, short="fps", better="higher", noise="throughput"),
    Column("answered_per_second", "answered/s", "answered_per_second", RATE),
    _percentile("p50", 50),
    _percentile("p90", 90),
    _percentile("p95", 95),
    _percentile("p99", 99),
    _percentile("p99.9", 99.9),
    _percentile("max", 100, better="neither"),
    Column("steady", "steady", "steady", detail=True),
    Column("accuracy/top1", "top-1", "top1", PERCENT, instead="accuracy/missing", better="higher"),
    Column("accuracy/top5", "top-5", "top5", PERCENT, instead="accuracy/missing", better="higher"),
    Column("accuracy/missing", get="accuracy_missing"),
    Column("accuracy/images", get="tally.accuracy.images"),
    Column("accuracy/classes", get=_classes, detail=True),
    Column("accuracy/worst_mistakes", get=_mistakes, detail=True),
    Column("accuracy/disagreement", get=_disagreement, detail=True),
    Column("failed_requests", "failed", "tally.failed", COUNT, better="lower"),
    Column("failures", "failures", "failures", optional=True),
    Column("unanswered_requests", get="tally.unanswered"),
    Column("retries", "retries", "tally.retries"),
    Column("mean_batch_size", "mean batch", "tally.mean_batch_size", NUMBER, optional=True),
    _stage("decode", "p50"),
    _stage("queue", "p99"),
    _stage("compute", "p50"),
    Column("mean_other_seconds", "mean rest (network, gRPC, threads)", "other_seconds", MILLISECONDS, optional=True),
    Column("changed_answers", "images whose answer changed", "tally.changed_answers", COUNT, optional=True),
    Column("accuracy/disagreement/text", "disagreement", optional=True),
    Column("client", get=_client, detail=True),
    Column("client/bottleneck", get="result.client_bound"),
    Column("client/summary", "client", "client", detail=True),
    Column("client/cpu_milliseconds_per_request", CLIENT_CPU, "cpu_per_request", CPU_MS, better="lower", noise="p50"),
    Column("client_cpu_milliseconds", "client CPU", "cpu_per_image", CPU_MS),
    Column("server_cpu_milliseconds", "server CPU", "server_cpu_milliseconds", CPU_MS),
    Column("note", "note", "note"),
    Column("statuses", get="tally.statuses"),
    Column("failure_messages", get="tally.failures"),
    Column("images_by_version", get="tally.versions"),
    Column("batch_sizes", get=lambda found: {str(n): count for n, count in sorted(found.tally.batch_sizes.items())}),
    Column("latency_histogram", get=lambda found: histogram(found.tally.waited), detail=True),
    Column("stability", get=_stability),
    Column("warnings", get=lambda found: found.warnings(), detail=True),
)
_BY_KEY = {column.key: column for column in COLUMNS}


def columns(*keys: str) -> tuple[Column, ...]:
    """Return the columns with these keys, in this order."""
    return tuple(_BY_KEY[key] for key in keys)


RUN_FIGURES = columns(
    *("device", "answered_version", "load", "requests", "images", "elapsed_seconds", "fps"),
    *(f"latency_seconds/{name}" for name in ("p50", "p90", "p95", "p99", "p99.9", "max")),
    *("steady", "accuracy/top1", "accuracy/top5", "failed_requests", "failures", "retries", "mean_batch_size"),
    *("mean_decode_seconds", "mean_queue_seconds", "mean_compute_seconds", "mean_other_seconds"),
    *("changed_answers", "accuracy/disagreement/text", "client/cpu_milliseconds_per_request", "client/summary"),
)
"""What a single run prints."""
SERIES_FIGURES = columns(
    *("fps", "latency_seconds/p50", "latency_seconds/p99", "mean_batch_size"),
    *("client_cpu_milliseconds", "server_cpu_milliseconds", "failed_requests", "note"),
)
"""What each row of a series of loads prints, beside what was varied."""
COMPARED = tuple(column for column in COLUMNS if column.better != "neither" or column.key == "mean_batch_size")


def point_json(found: Measurement) -> dict[str, Any]:
    """Return the figures of one load of a series."""
    return make_document((column for column in COLUMNS if not column.detail), found)


def run_json(found: Measurement) -> dict[str, Any]:
    """Return the report of a single run."""
    return {**report_head(RUN, found.settings, found.model), **make_document(COLUMNS, found)}


def report_head(schema: str, settings: LoadSettings, model: ModelInfo) -> dict[str, Any]:
    """Return what every report begins with."""
    return {
        "schema": schema,
        "schema_version": SCHEMA_VERSION,
        "environment": describe_environment(),
        "settings": asdict(settings),
        "model": model_json(model),
    }
