"""The outcome of ``repserve bench run``: a table for people, report.json for programs, predictions as CSV."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from repserve_bench.environment import describe_environment
from repserve_bench.served_model import describe_instances, is_simulated

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadResult, LoadSettings
    from repserve_client.results import ModelInfo

SCHEMA = "repserve.bench.run"
SCHEMA_VERSION = 1
PERCENTILES = (50, 90, 99)
NOT_MEASURED_SIMULATED = "not measured: simulated"
NOT_MEASURED_NO_LABELS = "not measured: no labels"


@dataclass(frozen=True)
class Report:
    """One replay: what was sent, to what, and what came back."""

    dataset: Dataset
    settings: LoadSettings
    model: ModelInfo
    result: LoadResult

    @property
    def failed(self) -> int:
        """Requests that ended with another status than OK."""
        return self.result.tally.failed

    @property
    def accuracy_missing(self) -> str | None:
        """Why there is no accuracy; None when there is one."""
        if is_simulated(self.model):
            return NOT_MEASURED_SIMULATED
        if self.model.caution:
            return f"not measured: {self.model.caution}"
        return None if self.dataset.labelled else NOT_MEASURED_NO_LABELS

    def to_json(self) -> dict[str, object]:
        """Returns everything as JSON values; times in seconds, accuracies as shares of 1."""
        tally, result = self.result.tally, self.result
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "environment": describe_environment(),
            "settings": asdict(self.settings),
            "dataset": {
                "images": len(self.dataset.samples),
                "labelled": self.dataset.labelled,
                "images_without_label": self.dataset.images_without_label,
                "labels_without_image": self.dataset.labels_without_image,
            },
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "crop": self.model.crop,
                "classes": self.model.classes,
                "simulated": is_simulated(self.model),
                "caution": self.model.caution,
                **describe_instances(self.model),
            },
            "interrupted": result.interrupted,
            "requests": tally.requests,
            "failed_requests": self.failed,
            "statuses": dict(tally.statuses),
            "failure_messages": tally.failures,
            "retries": dict(tally.retries),
            "images": tally.images,
            "elapsed_seconds": result.elapsed,
            "fps": result.fps,
            "latency_seconds": {
                **{f"p{percent}": tally.percentile(percent) for percent in PERCENTILES},
                "max": tally.percentile(100),
            },
            "accuracy": self._accuracy(),
            "changed_answers": tally.changed_answers,
            "images_by_version": dict(tally.versions),
            "mean_batch_size": tally.mean_per_image(tally.batch_size_sum),
            "mean_decode_seconds": tally.mean_per_image(tally.decode_seconds),
            "mean_queue_seconds": tally.mean_per_image(tally.queue_seconds),
            "mean_compute_seconds": tally.mean_per_image(tally.compute_seconds),
            "client": {
                "processes": result.processes,
                "cpu_seconds": result.cpu_seconds,
                "busiest_core_share": result.busiest_share,
                "bottleneck": result.client_bound,
                "requests_made_in_advance": result.requests_kept,
            },
        }

    def _accuracy(self) -> dict[str, object]:
        if self.accuracy_missing is not None:
            return {"top1": None, "top5": None, "missing": self.accuracy_missing}
        accuracy = self.result.tally.accuracy
        return {"images": accuracy.images, "top1": accuracy.top1, "top5": accuracy.top5}

    def to_table(self) -> Table:
        """Returns the table that ends a replay."""
        title = f"{self.model.name} at {self.settings.address}"
        if is_simulated(self.model):
            title = f"SIMULATED: {title}"
        if self.result.interrupted:
            title += " (interrupted)"
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        tally, result = self.result.tally, self.result
        instances = {key: ", ".join(values) for key, values in describe_instances(self.model).items()}
        device = f"{instances['devices']} ({instances['backends']}, precision {instances['precisions']})"
        client = (
            f"{result.cpu_seconds:.2f} CPU-s, load processes: {result.processes}, "
            f"busiest at {100 * result.busiest_share:.0f} % of a core"
        )
        rows = [
            ("device", device + (", SIMULATED" if is_simulated(self.model) else "")),
            ("model version", ", ".join(sorted(tally.versions)) or self.model.version),
            ("images", f"{tally.images} answered in {result.elapsed:.2f} s"),
            ("throughput", f"{result.fps:.1f} fps"),
            ("latency p50 / p90 / p99 / max", self._latencies()),
            ("top-1", self._share(tally.accuracy.top1)),
            ("top-5", self._share(tally.accuracy.top5)),
            ("failed requests", self._failures()),
            ("retries", _counts(dict(tally.retries)) or "0"),
            ("mean batch size", _number(tally.mean_per_image(tally.batch_size_sum), 1, "")),
            ("mean decode", _number(tally.mean_per_image(tally.decode_seconds), 1000, " ms")),
            ("mean queue", _number(tally.mean_per_image(tally.queue_seconds), 1000, " ms")),
            ("mean compute", _number(tally.mean_per_image(tally.compute_seconds), 1000, " ms")),
            ("client", client),
        ]
        if tally.changed_answers:
            rows.append(("changed answers", f"{tally.changed_answers} images answered otherwise than before"))
        return rows

    def warnings(self) -> list[str]:
        """Returns what a reader must know before believing the figures."""
        lines = []
        if self.result.client_bound:
            lines.append(
                "The client was the bottleneck: a load process used more than 90 % of a core. "
                "Use more with --processes, or a machine of its own."
            )
        if not self.result.requests_kept:
            lines.append("The requests do not fit in memory; making them is part of the measured time.")
        lines += [f"{status}: {message}" for status, message in sorted(self.result.tally.failures.items())]
        return lines

    def _latencies(self) -> str:
        values = [self.result.tally.percentile(percent) for percent in (*PERCENTILES, 100)]
        return " / ".join("-" if value is None else f"{1000 * value:.2f}" for value in values) + " ms"

    def _share(self, share: float | None) -> str:
        if self.accuracy_missing is not None:
            return self.accuracy_missing
        return "no labelled image was answered" if share is None else f"{100 * share:.2f} %"

    def _failures(self) -> str:
        failed = {status: count for status, count in self.result.tally.statuses.items() if status != "OK"}
        return f"{self.failed}" + (f" ({_counts(failed)})" if failed else "")


def write_json(file: Path, content: dict[str, object]) -> None:
    """Writes a report as indented JSON.

    Raises:
        OSError: The file cannot be written.
    """
    file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def write_predictions(file: Path, report: Report) -> None:
    """Writes the best class of each image's first answer: image, class index, its label and probability.

    Raises:
        OSError: The file cannot be written.
    """
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "predicted_index", "label", "probability"])
        for name, best in sorted(report.result.predictions.items()):
            writer.writerow([name, best.index, best.label, f"{best.probability:.6f}"])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _number(value: float | None, factor: float, unit: str) -> str:
    return "-" if value is None else f"{factor * value:.2f}{unit}"
