"""One load: its settings, its model, its outcome, and the warnings that belong to its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from repserve_bench.load import run_load
from repserve_bench.predictions import class_names, compare_with
from repserve_bench.progress import load_display
from repserve_bench.served_model import accuracy_missing, describe_instances, is_simulated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadResult
    from repserve_bench.load_messages import LoadSettings
    from repserve_bench.predictions import Disagreement
    from repserve_bench.server_process import ServerProcess
    from repserve_bench.tally import Tally
    from repserve_client.results import ModelInfo

LATE_SECONDS = 0.01
"""Requests that are sent later than due by more than this, or late on average by a tenth of it, are worth a warning."""
TRANSPORTS = {"stream": "streams", "unary": "unary calls", "v2": "KServe v2"}


@dataclass(frozen=True)
class Measurement:
    """A load and its outcome."""

    dataset: Dataset
    settings: LoadSettings
    model: ModelInfo
    result: LoadResult
    server_cpu_milliseconds: float | None = None
    """CPU time for an image, of a server that the bench started."""
    reference: Mapping[str, int] | None = None
    """Best class of each image in another run, by file name."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """Names of all classes, from the server."""

    @property
    def tally(self) -> Tally:
        """What was counted."""
        return self.result.tally

    @property
    def simulated(self) -> bool:
        """Whether the device is simulated: its scores are made up, its times are published ones."""
        return is_simulated(self.model)

    @property
    def device(self) -> str:
        """The device and what runs the model there."""
        if not self.model.instances:
            return "unknown"
        found = {key: ", ".join(values) for key, values in describe_instances(self.model).items()}
        device = f"{found['devices']} ({found['backends']}, precision {found['precisions']})"
        return device + (", SIMULATED" if self.simulated else "")

    @property
    def load(self) -> str:
        """How requests were sent."""
        arrivals = self.settings.arrivals
        text = f"closed loop, {self.settings.concurrency} in flight"
        if arrivals is not None:
            text = f"open loop, {arrivals.rate:g} requests/s, {arrivals.distribution}, timed from when due"
        return f"{text}, {TRANSPORTS[self.settings.transport]}"

    @property
    def steady(self) -> str:
        """Whether the figures had settled, with those of the last windows."""
        stability = self.result.stability
        if not stability.stable:
            return stability.complaint
        last = stability.last
        rate = sum(window.per_second for window in last) / len(last)
        p99 = sum(window.p99_seconds or 0.0 for window in last) / len(last)
        return f"yes: the last {len(last)} windows give {rate:.1f} requests/s, p99 {1000 * p99:.2f} ms"

    @property
    def accuracy_missing(self) -> str:
        """Why there is no accuracy; empty when there is one."""
        missing = accuracy_missing(self.model, labelled=self.dataset.labelled)
        return missing or ("" if self.tally.accuracy.images else "no labelled image was answered")

    @property
    def class_names(self) -> dict[int, str]:
        """Names of classes by index, as far as they are known."""
        return {**class_names(self.result.predictions), **self.labels}

    @property
    def disagreement(self) -> Disagreement | None:
        """How the predictions differ from the reference's; None without one."""
        return None if self.reference is None else compare_with(self.reference, self.result.predictions)

    @property
    def version(self) -> str:
        """The versions that answered, or else the requested one."""
        return ", ".join(sorted(self.tally.versions)) or self.model.version

    @property
    def top1(self) -> float | None:
        """Share of right answers, 0 to 1; None where it would mean nothing."""
        return None if self.accuracy_missing else self.tally.accuracy.top1

    @property
    def top5(self) -> float | None:
        """Share of answers with the right class among the best five, 0 to 1."""
        return None if self.accuracy_missing else self.tally.accuracy.top5

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by status."""
        return {code: count for code, count in self.tally.statuses.items() if code != "OK"}

    @property
    def client(self) -> str:
        """CPU time of the load processes, in words."""
        result = self.result
        return (
            f"{result.cpu_seconds:.2f} CPU-s, load processes: {result.processes}, "
            f"busiest at {100 * result.busiest_share:.0f} % of a core"
        )

    @property
    def cpu_per_request(self) -> float | None:
        """CPU time of the load processes for a request, in milliseconds."""
        return 1000 * self.result.cpu_seconds / self.tally.requests if self.tally.requests else None

    @property
    def cpu_per_image(self) -> float | None:
        """CPU time of the load processes for an image, in milliseconds."""
        return 1000 * self.result.cpu_seconds / self.tally.images if self.tally.images else None

    @property
    def other_seconds(self) -> float | None:
        """Mean time of a request outside decoding, queue and device: network, gRPC, threads.

        None if the server does not report these stages.
        """
        tally = self.tally
        if not tally.latencies or not tally.batch_sizes:
            return None
        known = (tally.queue_seconds + tally.compute_seconds) / tally.images
        known += tally.decode_seconds / len(tally.latencies)
        return max(0.0, sum(tally.latencies) / len(tally.latencies) - known)

    @property
    def answered_per_second(self) -> float:
        """Answered requests a second."""
        return len(self.tally.latencies) / self.result.elapsed if self.result.elapsed else 0.0

    @property
    def mean_send_lag(self) -> float:
        """Seconds by which requests were sent later than due, on average."""
        return self.tally.send_lag_seconds / self.tally.requests if self.tally.requests else 0.0

    @property
    def note(self) -> str:
        """Why to doubt the figures, in a few words; empty if there is no reason."""
        verdict = self.result.stability.verdict
        notes = (
            ("SIMULATED", self.simulated),
            (verdict, verdict != "stable"),
            ("client busy", self.result.client_bound),
        )
        return ", ".join(note for note, true in notes if true)

    def warnings(self) -> list[str]:
        """Return what to know before trusting the figures."""
        lines, tally = [], self.tally
        if self.result.client_bound:
            lines.append(
                "The client was the bottleneck: a load process used more than 90 % of a core. "
                "Use more with --processes, or another machine."
            )
        if not self.result.requests_kept:
            lines.append("The requests do not fit in memory; making them is part of the measured time.")
        if self.settings.arrivals and (tally.worst_send_lag > LATE_SECONDS or self.mean_send_lag > LATE_SECONDS / 10):
            lines.append(
                f"The client sent requests {1000 * self.mean_send_lag:.2f} ms late on average, "
                f"{1000 * tally.worst_send_lag:.1f} ms at most; this counts as latency."
            )
        if tally.worst_hold > LATE_SECONDS:
            lines.append(
                f"The limit of {self.settings.concurrency} requests in flight was reached: the server was so slow that "
                f"others were held back for up to {1000 * tally.worst_hold:.1f} ms; this counts as latency."
            )
        late = len(tally.given_up) - tally.unanswered
        for count, when in ((late, "in time"), (tally.unanswered, "when the run ended")):
            if count:
                lines.append(f"{count} requests had no answer {when}; they count with the time they had waited.")
        complaint = self.result.stability.complaint
        if self.settings.seconds and complaint:
            lines.append(f"{complaint[0].upper()}{complaint[1:]}.")
        return lines + [f"{status}: {message}" for status, message in sorted(tally.failures.items())]


def measure(
    dataset: Dataset, settings: LoadSettings, model: ModelInfo, console: Console, server: ServerProcess | None = None
) -> Measurement:
    """Run one load of a series behind a live display.

    Args:
        dataset: The images.
        settings: How they are sent.
        model: What answers, as the server lists it.
        console: Where progress is shown.
        server: The server, where it is one that the bench started.

    Raises:
        LoadError: The load could not be made.
        KeyboardInterrupt: It was interrupted.
    """
    # Images and the server's CPU seconds at the first and at the last call, so that warming up does not count.
    readings: list[tuple[int, float]] = []
    missing = accuracy_missing(model, labelled=dataset.labelled)
    with load_display(console, requests=settings.requests, seconds=settings.seconds, accuracy=not missing) as show:

        def progress(tally: Tally, elapsed: float) -> None:
            show(tally, elapsed)
            if server is not None:
                readings[1:] = [(tally.images, server.cpu_seconds())]

        result = run_load(dataset.samples, settings, progress)
    if result.interrupted:
        raise KeyboardInterrupt
    return Measurement(dataset, settings, model, result, _milliseconds_per_image(readings))


def _milliseconds_per_image(readings: Sequence[tuple[int, float]]) -> float | None:
    """Return the CPU time for an image between the readings; None if there are too few."""
    if not readings:
        return None
    (images, cpu), (last_images, last_cpu) = readings[0], readings[-1]
    return 1000 * (last_cpu - cpu) / (last_images - images) if last_images > images else None
