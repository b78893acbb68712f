"""LoadGen's logs of a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from repserve_bench.column import COUNT, MILLISECONDS, NUMBER, PERCENT, Column
from repserve_bench.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from repserve_bench.mlperf.scenario import ScenarioName

DETAIL_LOG = "mlperf_log_detail.txt"
ACCURACY_LOG = "mlperf_log_accuracy.json"
SUMMARY_LOG = "mlperf_log_summary.txt"
LINE_PREFIX = ":::MLLOG "
VALID, INVALID = "VALID", "INVALID"
METRICS: Mapping[ScenarioName, tuple[str, str, float]] = {
    "SingleStream": ("p90 of a query, ms", "result_90.00_percentile_latency_ns", 1e-6),
    "MultiStream": ("p99 of a query, ms", "result_99.00_percentile_per_query_latency_ns", 1e-6),
    "Offline": ("images/s", "result_samples_per_second", 1.0),
    "Server": ("queries/s", "result_completed_samples_per_sec", 1.0),
}
"""The metric of each scenario by MLPerf's rules: name with unit, key in the detail log, factor to the unit."""
SCENARIO_COLUMNS = (
    Column("scenario", "scenario", "scenario"),
    Column("result", "result", lambda found: VALID if found.valid else INVALID),
    Column("metric", "metric", "outcome.metric"),
    Column("value", "value", "outcome.value", NUMBER),
    Column("p99_seconds", "p99 of an image", "outcome.p99_seconds", MILLISECONDS, short="p99, ms"),
    Column("queries", "queries", "outcome.queries", COUNT),
    Column("top1", "top-1", "top1", PERCENT),
    Column("failed_requests", "failed", "finished.failed", COUNT),
    Column("remark", "remark", "remark"),
    Column("conditions", get=lambda found: asdict(found.conditions)),
    Column("logs", get=lambda found: str(found.logs)),
)
"""The figures of a ScenarioResult, for its JSON and its tables."""
P99_KEY = "result_99.00_percentile_latency_ns"


@dataclass(frozen=True)
class Outcome:
    """LoadGen's own verdict on a run."""

    valid: bool
    metric: str
    value: float | None
    queries: int
    p99_seconds: float | None
    """Of an image; in the Offline scenario all are issued at the start."""
    remark: str
    """Why it is not valid; empty when it is."""


def read_outcome(folder: Path, scenario: ScenarioName) -> Outcome:
    """Read the verdict of a performance run.

    Raises:
        LoadError: LoadGen left no verdict.
    """
    found = _read_detail(folder / DETAIL_LOG)
    if "result_validity" not in found:
        raise LoadError(f"LoadGen left no result in {folder}; see {SUMMARY_LOG} and {DETAIL_LOG} there")
    name, key, factor = METRICS[scenario]
    value, p99 = found.get(key), found.get(P99_KEY)
    valid = found["result_validity"] == VALID
    remark = "" if valid else f"{found.get('result_invalid_reason', '')} {found.get('early_stopping_result', '')}"
    return Outcome(
        valid=valid,
        metric=name,
        value=None if value is None else factor * float(value),
        queries=int(found.get("result_query_count", 0)),
        p99_seconds=None if p99 is None else 1e-9 * float(p99),
        remark=" ".join(remark.replace("*", " ").split()),
    )


def read_top1(folder: Path, labels: Sequence[int | None]) -> float | None:
    """Count the right answers of an accuracy run.

    Args:
        folder: LoadGen's logs.
        labels: The true class of each sample, by its index.

    Returns:
        The share of right answers, 0 to 1; None where no image has a label.

    Raises:
        LoadError: LoadGen left no answers.
    """
    try:
        entries = json.loads((folder / ACCURACY_LOG).read_text(encoding="utf-8"))
        answers = {int(entry["qsl_idx"]): _class_index(entry["data"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"LoadGen left no answers in {folder / ACCURACY_LOG}: {error}") from error
    judged = [answer == labels[index] for index, answer in answers.items() if labels[index] is not None]
    return sum(judged) / len(judged) if judged else None


def _class_index(data: str) -> int:
    """Read the int32 that the system under test answered."""
    return int.from_bytes(bytes.fromhex(data), "little", signed=True)


def _read_detail(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LoadError(f"LoadGen left no log: {error}") from error
    for line in lines:
        if line.startswith(LINE_PREFIX):
            entry = json.loads(line.removeprefix(LINE_PREFIX))
            found[entry["key"]] = entry["value"]
    return found
