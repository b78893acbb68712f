"""A place for a worker process: how far it is, and why it is not used where it failed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from typing_extensions import override

from repserve_server.supervisor.kept_process import Context, KeptProcess, describe_exit
from repserve_server.supervisor.model_source import ModelSource, worker_threads

if TYPE_CHECKING:
    from repserve_server.channel.worker_messages import LoadWorker, WorkerReady

LOAD_ATTEMPTS = 3
"""Loads in a row that fail, after which a worker is given up or, where the model was served before, the model counts
as failed, while it is tried again."""
RUNS_ALLOWED = 20
"""A worker may be silent for so many of its largest batches, however short ``liveness_timeout_seconds`` is."""


class Worker(KeptProcess):
    """A device and instance number of a model version, and the worker there now.

    A runtime may hold Python's lock for the whole of a run, so no thread of the worker can detect that a run hangs. A
    worker answers the supervisor between two batches: one that is silent for long hangs, in a run or in loading.

    Attributes:
        device: what it runs on.
        index: its number among the instances on that device.
        ready: the process's report when its model was loaded; None while it is not.
        reported: why its model could not be loaded, as reported by the process there now.
        last_failure: why the last load failed.
        failure: why it was given up; empty while it is tried.
        failed_loads: loads in a row that failed.
    """

    def __init__(self, source: ModelSource, revision: int, device: str, index: int, context: Context) -> None:
        super().__init__("worker", context)
        self.device, self.index = device, index
        self.ready: WorkerReady | None = None
        self.reported = ""
        self.last_failure = ""
        self.failure = ""
        self.failed_loads = 0
        self._source, self._revision = source, revision

    @property
    @override
    def label(self) -> str:
        return f"worker {self._source.name}/{self._source.version}@{self.device}#{self.index}.{self._revision}"

    @property
    @override
    def silence_limit(self) -> float:
        """While it loads, and once it is ready."""
        settings = self.context.wanted.settings
        if self.ready is None:
            return settings.load_timeout_seconds
        return max(settings.liveness_timeout_seconds, RUNS_ALLOWED * max(self.ready.batch_seconds.values()))

    @override
    def first_message(self) -> LoadWorker:
        """Which model to load."""
        wanted = self.context.wanted
        return self._source.load_message(self.device, self.index, wanted.log_level, worker_threads(wanted.settings))

    @override
    def describe_hang(self, seconds: float) -> str:
        """Say so; a hang while loading is also the reason why the model cannot be served."""
        if self.ready is not None:
            return ", in a run on the device"
        self.reported = f"it was still loading its model after {seconds:.0f} s (load_timeout_seconds)"
        return ", in loading its model"

    def serve(self, ready: WorkerReady) -> None:
        """Note that it takes images from now on."""
        self.ready, self.in_service_since = ready, self.context.clock()
        self.failed_loads = 0

    def crashed(self, returncode: int) -> bool:
        """Whether its end is its own doing, a hang too; killed from outside, neither image nor model is to blame."""
        return self.hung or returncode != -signal.SIGKILL

    def count_failed_load(self, returncode: int) -> None:
        """Remember why a load failed: in the words of the process, or by how it ended."""
        self.failed_loads += 1
        ended = f"its worker {describe_exit(returncode)} while loading, {self.failed_loads} times in a row"
        self.last_failure = self.reported or ended

    def try_again(self) -> None:
        """Give it another chance after it was given up."""
        self.failure = ""
        self.start_after(self._backoff.next_delay(), f"{self.label} was given up")

    @override
    def exited(self, returncode: int) -> None:
        super().exited(returncode)
        self.ready = None
        self.reported = ""
