"""What the supervisor knows of each model version that it has loaded: its workers, and the state that follows."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from repserve_server.channel.message import Identity
from repserve_server.channel.model_info import InputInfo, InstanceInfo, ModelInfo, ModelState
from repserve_server.channel.slots import SlotLayout
from repserve_server.channel.worker_messages import FromWorker, LoadWorker, ModelInterface, WorkerReady
from repserve_server.repository.scan import ModelFolder, VersionFolder
from repserve_server.settings import Settings
from repserve_server.supervisor.backoff import Backoff
from repserve_server.supervisor.child import Child

LOAD_ATTEMPTS = 3
"""Loads in a row that fail, after which a worker is given up or, where the model was served before, its model is said
to have failed, while it is tried again."""

_LABELS_FOR_MESSAGES = 1000

WorkerChild = Child[FromWorker]

_revisions = itertools.count(1)


@dataclass(eq=False)
class Worker:
    """A place for a worker process: a device and instance number of a model version, and the process there now.

    Attributes:
        device: what it runs on.
        index: its number among the instances on that device.
        child: the process, while there is one.
        ready: what the process said when its model was loaded; None while it is not.
        ready_since: when that was, on the loop's clock.
        started_at: when the process was started, likewise.
        hung: it was killed because it did not answer.
        reported: why its model could not be loaded, in the words of the process there now.
        last_failure: why the last load failed.
        failure: why it was given up; empty while it is tried.
        starts: how many processes were started here.
        failed_loads: loads in a row that failed.
    """

    device: str
    index: int
    child: WorkerChild | None = None
    ready: WorkerReady | None = None
    ready_since: float = 0.0
    started_at: float = 0.0
    hung: bool = False
    reported: str = ""
    last_failure: str = ""
    failure: str = ""
    starts: int = 0
    failed_loads: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(time.monotonic))


class ModelVersion:
    """One version of a model as its folder was at one time, and its workers.

    Attributes:
        revision: a number of its own, larger than those of all that were loaded before.
        folder: the model's folder as it was then.
        source: the version's.
        held_back: it is not shown as ready yet, since another one is served until this one is ready as a whole.
        was_ready: a worker of it was ready at some time.
        retiring: it takes no more requests, and goes when those it has are answered.
        interface: what its workers take and give, known once one was ready.
        gone: set when its workers have ended and its memory is freed.
    """

    def __init__(
        self, folder: ModelFolder, source: VersionFolder, settings: Settings, *, held_back: bool = False
    ) -> None:
        self.revision = next(_revisions)
        self.folder, self.source = folder, source
        self.max_batch_size = min(folder.config.max_batch_size, settings.max_batch_size or folder.config.max_batch_size)
        self.held_back = held_back
        self.was_ready = False
        self.retiring = False
        self.gone = asyncio.Event()
        self.interface: ModelInterface | None = None
        devices = folder.config.devices or settings.device
        instances = folder.config.instance_count or settings.instance_count
        self.workers = [Worker(device, index) for device in devices for index in range(instances)]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The version as requests name it."""
        return str(self.source.number)

    @property
    def ready_workers(self) -> list[Worker]:
        """The workers that take images."""
        return [worker for worker in self.workers if worker.ready is not None]

    @property
    def settled(self) -> bool:
        """Whether every worker is ready or given up."""
        return all(worker.ready is not None or worker.failure for worker in self.workers)

    @property
    def state(self) -> ModelState:
        """The state of the whole: ready as soon as one worker is, unless it is held back."""
        if self.ready_workers:
            return "loading" if self.held_back else "ready"
        if all(worker.failure for worker in self.workers):
            return "failed"
        if not self.was_ready:
            return "loading"
        hopeless = all(worker.failure or worker.failed_loads >= LOAD_ATTEMPTS for worker in self.workers)
        return "failed" if hopeless else "restarting"

    @property
    def reason(self) -> str:
        """Why it does not answer; empty when it does."""
        state = self.state
        if state == "ready":
            return ""
        if state == "failed":
            return next((text for worker in self.workers if (text := worker.failure or worker.last_failure)), "")
        return "its worker is being restarted" if state == "restarting" else "it is being loaded and warmed up"

    def layout(self, slots: int, interface: ModelInterface) -> SlotLayout:
        """The layout of its slot areas."""
        taken = interface.input
        return SlotLayout(slots=slots, shape=taken.shape, dtype=taken.dtype, classes=interface.classes)

    def load_message(self, worker: Worker, settings: Settings, threads: int) -> LoadWorker:
        """The message that tells a new worker process what to load."""
        config = self.folder.config
        return LoadWorker(
            identity=Identity(
                process=f"worker {self.name}/{self.version}@{worker.device}#{worker.index}",
                log_level=settings.log_level,
                log_format=settings.log_format,
            ),
            model=self.name,
            version=self.version,
            device=worker.device,
            instance=worker.index,
            folder=self.source.path,
            runtime=settings.runtime,
            precision=settings.precision,
            threads=settings.device_threads or threads,
            max_batch_size=self.max_batch_size,
            compiled_sizes=config.compiled_sizes,
            classes=len(self.folder.labels) or None,
            labels=self.folder.labels[:_LABELS_FOR_MESSAGES],
            output=config.output,
            preprocessing=config.preprocessing,
            crop_open=not {"crop", "resize"} & config.preprocessing.model_fields_set,
        )

    def describe(self) -> ModelInfo:
        """The description that frontends get."""
        interface = self.interface
        return ModelInfo(
            name=self.name,
            version=self.version,
            state=self.state,
            reason=self.reason,
            caution=self.source.caution,
            preprocessing=interface.preprocessing if interface else self.folder.config.preprocessing,
            max_batch_size=self.max_batch_size,
            classes=interface.classes if interface else 0,
            revision=self.revision,
            input=interface.input if interface else InputInfo(),
            output_name=interface.output_name if interface else "",
            offered=self.folder.config.inputs,
            instances=tuple(
                InstanceInfo(
                    device=worker.device,
                    backend=ready.backend,
                    precision=ready.precision,
                    simulated=ready.simulated,
                    load_seconds=worker.ready_since - worker.started_at,
                    batch_seconds=ready.batch_seconds,
                )
                for worker in self.workers
                if (ready := worker.ready) is not None
            ),
        )
