"""The outcome of ``repserve bench run`` as JSON values, and what its reader must know before believing it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from repserve_bench.environment import describe_environment
from repserve_bench.latency import histogram, percentiles
from repserve_bench.predictions import accuracy_by_class, class_names, compare_with, worst_mistakes
from repserve_bench.report_file import RUN, SCHEMA_VERSION
from repserve_bench.served_model import accuracy_missing, describe_instances, is_simulated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadResult, LoadSettings
    from repserve_bench.predictions import Disagreement
    from repserve_client.results import ModelInfo

LATE_SECONDS = 0.01
"""Requests that are sent later than due by more than this, or late on average by a tenth of it, are worth a word."""


@dataclass(frozen=True)
class Report:
    """One replay: what was sent, to what, and what came back."""

    dataset: Dataset
    settings: LoadSettings
    model: ModelInfo
    result: LoadResult
    reference: Mapping[str, int] | None = None
    """Best class of each image in another run, by file name."""

    @property
    def failed(self) -> int:
        """Requests that ended with another status than OK."""
        return self.result.tally.failed

    @property
    def simulated(self) -> bool:
        """Whether the scores are made up and the times are those of a pretended device."""
        return is_simulated(self.model)

    @property
    def accuracy_missing(self) -> str:
        """Why there is no accuracy; empty when there is one."""
        return accuracy_missing(self.model, labelled=self.dataset.labelled)

    @property
    def disagreement(self) -> Disagreement | None:
        """How the predictions differ from the reference's; None without one."""
        return None if self.reference is None else compare_with(self.reference, self.result.predictions)

    @property
    def other_seconds(self) -> float | None:
        """Mean time of a request that is neither decoding, queue nor device: the way there and back, gRPC, waiting.

        None where the server does not tell the others.
        """
        tally = self.result.tally
        if not tally.latencies or not tally.batch_sizes:
            return None
        told = (tally.queue_seconds + tally.compute_seconds) / tally.images
        told += tally.decode_seconds / len(tally.latencies)
        return max(0.0, sum(tally.latencies) / len(tally.latencies) - told)

    def to_json(self) -> dict[str, object]:
        """Returns everything as JSON values; times in seconds, accuracies as shares of 1."""
        tally, result = self.result.tally, self.result
        return {
            "schema": RUN,
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
                "max_batch_size": self.model.max_batch_size,
                "simulated": self.simulated,
                "caution": self.model.caution,
                **describe_instances(self.model),
            },
            "interrupted": result.interrupted,
            "requests": tally.requests,
            "failed_requests": self.failed,
            "unanswered_requests": tally.unanswered,
            "statuses": dict(tally.statuses),
            "failure_messages": tally.failures,
            "retries": dict(tally.retries),
            "images": tally.images,
            "elapsed_seconds": result.elapsed,
            "fps": result.fps,
            "latency_seconds": percentiles(tally),
            "latency_histogram": histogram(tally.waited),
            "stability": self._stability(),
            "accuracy": self._accuracy(),
            "changed_answers": tally.changed_answers,
            "images_by_version": dict(tally.versions),
            "mean_batch_size": tally.mean_batch_size,
            "batch_sizes": {str(size): count for size, count in sorted(tally.batch_sizes.items())},
            "mean_decode_seconds": tally.mean_per_image(tally.decode_seconds),
            "mean_queue_seconds": tally.mean_per_image(tally.queue_seconds),
            "mean_compute_seconds": tally.mean_per_image(tally.compute_seconds),
            "mean_other_seconds": self.other_seconds,
            "client": {
                "processes": result.processes,
                "cpu_seconds": result.cpu_seconds,
                "cpu_milliseconds_per_request": self.client_cpu_milliseconds,
                "busiest_core_share": result.busiest_share,
                "bottleneck": result.client_bound,
                "requests_made_in_advance": result.requests_kept,
                "mean_send_lag_seconds": self.mean_send_lag,
                "worst_send_lag_seconds": tally.worst_send_lag,
                "worst_hold_seconds": tally.worst_hold,
            },
            "warnings": self.warnings(),
        }

    @property
    def client_cpu_milliseconds(self) -> float | None:
        """CPU time of the load processes for a request."""
        requests = self.result.tally.requests
        return 1000 * self.result.cpu_seconds / requests if requests else None

    @property
    def mean_send_lag(self) -> float:
        """Seconds by which requests were sent later than due, on average."""
        tally = self.result.tally
        return tally.send_lag_seconds / tally.requests if tally.requests else 0.0

    def warnings(self) -> list[str]:
        """Returns what a reader must know before believing the figures."""
        lines, tally = [], self.result.tally
        if self.result.client_bound:
            lines.append(
                "The client was the bottleneck: a load process used more than 90 % of a core. "
                "Use more with --processes, or a machine of its own."
            )
        if not self.result.requests_kept:
            lines.append("The requests do not fit in memory; making them is part of the measured time.")
        if self.settings.arrivals and (tally.worst_send_lag > LATE_SECONDS or self.mean_send_lag > LATE_SECONDS / 10):
            lines.append(
                f"Requests were sent {1000 * self.mean_send_lag:.2f} ms later than due on average, "
                f"{1000 * tally.worst_send_lag:.1f} ms at most; that is the client's doing and counts as latency."
            )
        if tally.worst_hold > LATE_SECONDS:
            lines.append(
                f"{self.settings.concurrency} requests were in flight, and no more may be: others were held back for "
                f"up to {1000 * tally.worst_hold:.1f} ms; that is the server's doing and counts as latency."
            )
        late = len(tally.given_up) - tally.unanswered
        for count, when in ((late, "in time"), (tally.unanswered, "when the run was ended")):
            if count:
                lines.append(f"{count} requests had no answer {when}; they count with the time that they waited.")
        if self.settings.seconds and self.result.stability.complaint:
            lines.append(f"{self.result.stability.complaint[0].upper()}{self.result.stability.complaint[1:]}.")
        lines += [f"{status}: {message}" for status, message in sorted(tally.failures.items())]
        return lines

    def _stability(self) -> dict[str, object]:
        stability = self.result.stability
        return {
            "stable": stability.stable,
            "complaint": stability.complaint,
            "window_seconds": stability.window_seconds,
            "windows": [asdict(window) for window in stability.windows],
        }

    def _accuracy(self) -> dict[str, object]:
        found = self.disagreement
        compared = {
            "disagreement": None
            if found is None
            else {"images": found.images, "share": found.share, "different": list(found.different)}
        }
        if self.accuracy_missing:
            return {"top1": None, "top5": None, "missing": self.accuracy_missing, **compared}
        accuracy, predictions = self.result.tally.accuracy, self.result.predictions
        names = class_names(predictions)
        return {
            "images": accuracy.images,
            "top1": accuracy.top1,
            "top5": accuracy.top5,
            "classes": [
                {
                    "index": index,
                    "label": names.get(index, ""),
                    "images": own.images,
                    "top1": own.top1,
                    "top5": own.top5,
                }
                for index, own in accuracy_by_class(self.dataset.samples, predictions).items()
            ],
            "worst_mistakes": [asdict(mistake) for mistake in worst_mistakes(self.dataset.samples, predictions)],
            **compared,
        }
