"""What the supervisor knows of each model version: its workers, and the state that follows from theirs."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from repserve_server.channel.slots import SlotLayout
from repserve_server.dataplane.models import InputInfo, InstanceInfo, ModelInfo, ModelState
from repserve_server.repository.scan import ModelFolder
from repserve_server.settings import Settings
from repserve_server.supervisor.backoff import Backoff
from repserve_server.supervisor.child import Child

LOAD_ATTEMPTS = 3
"""Crashes while loading after which a worker is given up."""


_revisions = itertools.count(1)


@dataclass(eq=False)
class Worker:
    """A place for a worker process: a device and instance number of a model version, and the process there now."""

    device: str
    index: int
    child: Child | None = None
    ready: dict[str, Any] | None = None
    hung: bool = False
    failure: str = ""
    starts: int = 0
    load_crashes: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(time.monotonic))


class ModelVersion:
    """One version of a model and its workers."""

    def __init__(self, folder: ModelFolder, settings: Settings) -> None:
        self.revision = next(_revisions)
        self.folder = folder
        self.version = str(folder.versions[-1]) if folder.versions else ""
        self.max_batch = min(folder.config.max_batch, settings.max_batch or folder.config.max_batch)
        self.was_ready = False
        self.shape_body: dict[str, Any] = {}
        self.workers: list[Worker] = []
        if not folder.problem:
            self.workers = [Worker(device, index) for device in settings.device for index in range(settings.instances)]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name

    @property
    def ready_workers(self) -> list[Worker]:
        """The workers that take images."""
        return [worker for worker in self.workers if worker.ready is not None]

    @property
    def state(self) -> ModelState:
        """The state of the whole: ready as soon as one worker is."""
        if self.folder.problem:
            return "absent" if not self.folder.versions else "failed"
        if self.ready_workers:
            return "ready"
        if all(worker.failure for worker in self.workers):
            return "failed"
        return "restarting" if self.was_ready else "loading"

    @property
    def reason(self) -> str:
        """Why it does not answer; empty when it does."""
        if self.state == "ready":
            return ""
        failures = [worker.failure for worker in self.workers if worker.failure]
        if self.folder.problem or failures:
            return self.folder.problem or failures[0]
        return "its worker is being restarted" if self.was_ready else "it is being loaded and warmed up"

    def layout(self, slots: int) -> SlotLayout:
        """The layout of its slot areas, known once a worker is ready."""
        return SlotLayout(
            slots=slots,
            shape=tuple(self.shape_body["shape"]),
            dtype=self.shape_body["dtype"],
            classes=self.shape_body["classes"],
        )

    def load_body(self, worker: Worker, settings: Settings, threads: int) -> dict[str, Any]:
        """The message that tells a new worker process what to load."""
        config = self.folder.config
        return {
            "process": f"worker {self.name}/{self.version}@{worker.device}#{worker.index}",
            "log_level": settings.log_level,
            "model": self.name,
            "version": self.version,
            "device": worker.device,
            "instance": worker.index,
            "folder": str(self.folder.path / self.version),
            "runtime": settings.runtime,
            "precision": settings.precision,
            "threads": settings.device_threads or threads,
            "max_batch": self.max_batch,
            "compiled_sizes": config.compiled_sizes,
            "classes": len(self.folder.labels) or None,
            "preprocessing": config.preprocessing.model_dump(),
        }

    def describe(self) -> ModelInfo:
        """The description that frontends get."""
        return ModelInfo(
            name=self.name,
            version=self.version,
            state=self.state,
            reason=self.reason,
            caution=self.folder.caution,
            preprocessing=self.folder.config.preprocessing,
            max_batch=self.max_batch,
            classes=self.shape_body.get("classes", 0),
            revision=self.revision,
            input=InputInfo(
                self.shape_body.get("input_name", ""),
                self.shape_body.get("dtype", ""),
                tuple(self.shape_body.get("shape", ())),
            ),
            output_name=self.shape_body.get("output_name", ""),
            instances=tuple(
                InstanceInfo(
                    device=worker.device,
                    backend=ready["backend"],
                    precision=ready["precision"],
                    simulated=ready["simulated"],
                    batch_seconds={int(size): seconds for size, seconds in ready["batch_seconds"].items()},
                )
                for worker in self.workers
                if (ready := worker.ready) is not None
            ),
        )
