"""The statistics of a model version, in the form of Triton's statistics extension."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.dataplane.statistics import Duration, ModelStatistics
    from repserve_server.protocols.kserve import documents


def describe_statistics(entry: ModelStatistics) -> documents.ModelStatistics:
    """A version's counts as a document."""
    return {
        "name": entry.name,
        "version": entry.version,
        "last_inference": entry.last_inference,
        "inference_count": entry.inferences,
        "execution_count": sum(runs.count for runs in entry.batches.values()),
        "inference_stats": {
            "success": _describe(entry.success),
            "fail": _describe(entry.fail),
            "queue": _describe(entry.queue),
            "compute_input": _describe(entry.compute_input),
            "compute_infer": _describe(entry.compute_infer),
            "compute_output": _describe(entry.compute_output),
        },
        "batch_stats": [
            {"batch_size": size, "compute_infer": _describe(runs)} for size, runs in sorted(entry.batches.items())
        ],
    }


def _describe(duration: Duration) -> documents.StatisticDuration:
    return {"count": duration.count, "ns": duration.nanoseconds}
