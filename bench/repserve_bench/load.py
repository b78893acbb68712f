"""A load in a closed or an open loop, sent by as many processes as it needs."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from repserve_bench.child_process import ChildProcess
from repserve_bench.errors import LoadError
from repserve_bench.load_messages import Finished, Go, Job, LoadSettings, Ready, Stop
from repserve_bench.payloads import group
from repserve_bench.tally import Tally
from repserve_bench.windows import Stability, cut_into_windows
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from repserve_bench.dataset import Sample
    from repserve_bench.predictions import Prediction

    Progress = Callable[[Tally, float], None]

ENCODED_PER_PROCESS = 64
PIXELS_PER_PROCESS = 16
PREPARE_TIMEOUT = 600.0
SILENCE_TIMEOUT = 30.0
REPORT_DELAY = 0.5
"""Seconds after which what a load process counted is known here for certain; it reports five times a second."""
LOAD_PROCESS = "repserve_bench.load_process"
EXPECTED_SECONDS = 0.01
"""Rough time to an answer, to estimate the number of load processes."""
BUSY_SHARE = 0.9
"""A load process that used more of a core than this may have limited the throughput."""
LEAST_SECONDS = 0.1
"""In a shorter replay, it cannot be determined what limited it."""


@dataclass
class LoadResult:
    """The result of a replay."""

    tally: Tally
    elapsed: float
    """Seconds from the first request to the last answer; in an open loop at least the requested length."""
    processes: int
    cpu_seconds: float
    """CPU time of the load processes while the clock ran."""
    busiest_share: float
    """CPU time of the busiest process, of one core."""
    predictions: dict[str, Prediction]
    """The first answer for each image, by file name."""
    stability: Stability
    requests_kept: bool
    """Whether all requests were made before the clock started."""
    interrupted: bool = False

    @property
    def fps(self) -> float:
        """Answered images a second."""
        return self.tally.images / self.elapsed if self.elapsed else 0.0

    @property
    def client_bound(self) -> bool:
        """Whether the client may have been the bottleneck."""
        return self.busiest_share > BUSY_SHARE


def auto_processes(*, concurrency: int, pixels: bool, cores: int) -> int:
    """Choose how many load processes a load needs.

    One process sends some 5,000 requests a second. Encoded images cost the server at least ten times what
    they cost the client, so one process carries 64 in flight; pixels cost both about the same, so it
    carries 16. Half of the cores are left to the server, which usually shares the machine.
    """
    per_process = PIXELS_PER_PROCESS if pixels else ENCODED_PER_PROCESS
    return max(1, min(-(-concurrency // per_process), cores // 2))


def _expected_in_flight(settings: LoadSettings) -> int:
    """Return how many requests are in flight where the server keeps up: in an open loop, by Little's law."""
    if settings.arrivals is None:
        return settings.concurrency
    return min(settings.concurrency, math.ceil(settings.arrivals.rate * EXPECTED_SECONDS))


def share_of_requests(requests: int, groups: int, process: int, processes: int) -> int:
    """Count the requests one process sends when ``requests`` go round over ``groups`` dealt out in turn."""
    passes, rest = divmod(requests, groups)
    return passes * len(range(process, groups, processes)) + len(range(process, rest, processes))


def make_jobs(samples: Sequence[Sample], settings: LoadSettings) -> list[Job]:
    """Deal a replay out to load processes, so that together they send what one alone would."""
    groups = group(samples, settings.input.images_per_request)
    wanted = settings.processes or auto_processes(
        concurrency=_expected_in_flight(settings), pixels=settings.input.pixels, cores=available_cpus()
    )
    requests = settings.requests
    if not requests and not settings.seconds:
        requests = len(groups)
    processes = min(wanted, settings.concurrency, len(groups), *([] if settings.seconds else [requests]))
    concurrencies = [len(range(number, settings.concurrency, processes)) for number in range(processes)]
    return [
        Job(
            **vars(settings)
            | {
                "concurrency": concurrency,
                "channels": min(settings.channels, concurrency),
                "requests": share_of_requests(requests, len(groups), number, processes),
                "arrivals": settings.arrivals.share(number, processes) if settings.arrivals else None,
            },
            groups=tuple(groups[number::processes]),
        )
        for number, concurrency in enumerate(concurrencies)
    ]


def run_load(samples: Sequence[Sample], settings: LoadSettings, progress: Progress | None = None) -> LoadResult:
    """Replay the samples and count the answers.

    Ctrl-C ends the replay early; what was counted until then is returned, marked as interrupted.

    Args:
        samples: The images, in the order in which they are sent.
        settings: How they are sent.
        progress: Called some five times a second with the counts so far and the seconds since the start.

    Raises:
        LoadError: No server answers, an image cannot be read, or a load process failed.
    """
    jobs = make_jobs(samples, settings)
    with contextlib.ExitStack() as cleanup:
        processes = [cleanup.enter_context(ChildProcess(LOAD_PROCESS, job)) for job in jobs]
        return _Collector(processes, settings, progress).collect()


class _Collector:
    """Starts the prepared processes together and adds up what they report."""

    def __init__(self, processes: list[ChildProcess], settings: LoadSettings, progress: Progress | None) -> None:
        self._processes = processes
        self._settings = settings
        self._progress = progress
        self._tally = Tally()
        self._finished: list[Finished] = []
        self._requests_kept = True
        self._interrupted = False
        self._settled: Stability | None = None
        """The windows that ended the replay because they agreed."""

    def collect(self) -> LoadResult:
        deadline = time.monotonic() + PREPARE_TIMEOUT
        for process in self._processes:
            if not process.connection.poll(max(0.0, deadline - time.monotonic())):
                raise LoadError(f"the load was not ready after {PREPARE_TIMEOUT:.0f} s")
            message = process.receive()
            self._requests_kept &= isinstance(message, Ready) and message.requests_kept
        started = time.monotonic()
        for process in self._processes:
            process.send(Go())
        running = {process.connection: process for process in self._processes}
        while running:
            try:
                self._gather(running, started)
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupted = True
                for process in running.values():
                    process.send(Stop())
        return self._result()

    def _gather(self, running: dict[Connection, ChildProcess], started: float) -> None:
        ready = set(wait(list(running), timeout=SILENCE_TIMEOUT))
        if not ready:
            raise LoadError(f"no load process reported anything for {SILENCE_TIMEOUT:.0f} s")
        for connection, process in list(running.items()):
            if connection not in ready:
                continue
            message = process.receive()
            if isinstance(message, Tally):
                self._tally.merge(message)
            elif isinstance(message, Finished):
                self._finished.append(message)
                del running[connection]
        elapsed = time.monotonic() - started
        if self._progress is not None:
            self._progress(self._tally, elapsed)
        if self._settings.until_stable and self._settled is None:
            # The latest answers of other processes may not have arrived here yet.
            window = self._settings.window_seconds
            stability = cut_into_windows(self._tally, started, elapsed - REPORT_DELAY, window)
            if stability.stable:
                self._settled = stability
                for process in running.values():
                    process.send(Stop())

    def _result(self) -> LoadResult:
        predictions: dict[str, Prediction] = {}
        for finished in self._finished:
            predictions |= finished.predictions
        started = min(finished.started for finished in self._finished)
        elapsed = max(finished.ended for finished in self._finished) - started
        if self._settings.arrivals is not None and not self._interrupted and self._settled is None:
            # The last request was due before the end; the load lasted for the whole time.
            elapsed = max(elapsed, self._settings.seconds)
        return LoadResult(
            tally=self._tally,
            elapsed=elapsed,
            processes=len(self._processes),
            cpu_seconds=sum(finished.cpu_seconds for finished in self._finished),
            busiest_share=max(finished.cpu_seconds for finished in self._finished) / max(elapsed, LEAST_SECONDS),
            predictions=predictions,
            requests_kept=self._requests_kept,
            interrupted=self._interrupted,
            stability=self._settled or cut_into_windows(self._tally, started, elapsed, self._settings.window_seconds),
        )
