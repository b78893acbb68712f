"""A version of a model that is loaded: its workers, and the state that follows from theirs."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from repserve_server.channel.model_info import InputInfo, InstanceInfo, ModelInfo, ModelState
from repserve_server.channel.slots import SlotLayout
from repserve_server.supervisor.kept_process import Context, Wish
from repserve_server.supervisor.workers import LOAD_ATTEMPTS, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from repserve_server.channel.worker_messages import ModelInterface, WorkerReady
    from repserve_server.repository.scan import VersionFolder
    from repserve_server.supervisor.model_source import ModelSource

logger = logging.getLogger(__name__)

_revisions = itertools.count(1)


class ModelVersion:
    """One version of a model and its workers.

    Attributes:
        revision: a number of its own, larger than those of all that were loaded before.
        source: the version's files and settings.
        workers: a place for each worker.
        interface: what its workers take and give, known once one was ready.
        held_back: it is not shown as ready yet, since another one is served until this one is ready as a whole.
        was_ready: a worker of it was ready at some time.
        retiring: it takes no more requests, and goes when those it has are answered.
        released: it is retiring, and no frontend has a request for it any more.
    """

    def __init__(self, source: ModelSource, context: Context, *, held_back: bool = False) -> None:
        self.revision = next(_revisions)
        self.source = source
        self.workers = [Worker(source, self.revision, device, index, context) for device, index in source.places]
        self.interface: ModelInterface | None = None
        self.held_back = held_back
        self.was_ready = False
        self.retiring = False
        self.released = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.source.name

    @property
    def version(self) -> str:
        """The version as requests name it."""
        return self.source.version

    @property
    def ready_workers(self) -> list[Worker]:
        """The workers that take images."""
        return [worker for worker in self.workers if worker.ready is not None]

    @property
    def settled(self) -> bool:
        """Whether every worker is ready or given up."""
        return all(worker.ready is not None or worker.failure for worker in self.workers)

    @property
    def gone(self) -> bool:
        """Whether it is released and its workers have ended."""
        return self.released and all(worker.child is None for worker in self.workers)

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
    def serves(self) -> bool:
        """Whether it takes requests."""
        return not self.retiring and self.state in ("ready", "restarting")

    @property
    def reason(self) -> str:
        """Why it does not answer; empty when it does."""
        state = self.state
        if state == "ready":
            return ""
        if state == "failed":
            return next((text for worker in self.workers if (text := worker.failure or worker.last_failure)), "")
        return "its worker is being restarted" if state == "restarting" else "it is being loaded and warmed up"

    def is_one_of(self, wanted: Iterable[VersionFolder]) -> bool:
        """Whether it is one of these, and its files have not changed since it was loaded."""
        files = self.source.files
        return any((files.number, files.fingerprint) == (other.number, other.fingerprint) for other in wanted)

    def keep(self, wish: Wish) -> None:
        """Start, stop or kill its workers, as is wanted and due."""
        for worker in self.workers:
            worker.wish = Wish.STOP if self.released or worker.failure else wish
            worker.keep()

    def take_ready(self, worker: Worker, ready: WorkerReady) -> None:
        """Note that a worker has loaded the model; all its workers share slots and must agree on their layout."""
        if self.interface and ready.interface != self.interface:
            worker.failure = f"it takes or gives {ready.interface}, and the model's first worker {self.interface}"
            logger.error("%s cannot serve: %s", worker.label, worker.failure)
            return
        worker.serve(ready)
        first, self.was_ready, self.interface = not self.was_ready, True, ready.interface
        self._log_ready(worker, ready)
        if first:
            # The model can be served after all: whichever worker came first, the others get the same chance.
            for other in self.workers:
                if other.failure and other.child is None:
                    other.try_again()

    def take_failure(self, worker: Worker, reason: str) -> None:
        """Note that a worker cannot load the model."""
        worker.reported = reason
        logger.error("%s cannot serve: %s", worker.label, reason)

    def take_exit(self, worker: Worker, returncode: int) -> None:
        """Note that a worker has ended.

        A version that was never served is given up for a reason that its worker knows, or after several crashes. One
        that was served is tried for ever: the reason may pass, such as a device that another process holds.
        """
        loading = worker.ready is None and worker.wish is Wish.RUN and not worker.failure
        # A kill from outside is no sign against a model that could be loaded before.
        if loading and (worker.crashed(returncode) or not self.was_ready):
            worker.count_failed_load(returncode)
            known = worker.reported or worker.hung or worker.failed_loads >= LOAD_ATTEMPTS
            if known and not self.was_ready:
                worker.failure = worker.last_failure
                worker.wish = Wish.STOP
                logger.error("%s is given up: %s", worker.label, worker.failure)
        worker.exited(returncode)

    def layout(self, slots: int) -> SlotLayout | None:
        """Return the layout of its slot areas, known once a worker was ready."""
        if self.interface is None:
            return None
        taken = self.interface.input
        return SlotLayout(slots=slots, shape=taken.shape, dtype=taken.dtype, classes=self.interface.classes)

    def describe(self) -> ModelInfo:
        """Describe it to frontends."""
        interface, config = self.interface, self.source.folder.config
        return ModelInfo(
            name=self.name,
            version=self.version,
            state=self.state,
            reason=self.reason,
            caution=self.source.files.caution,
            preprocessing=interface.preprocessing if interface else config.preprocessing,
            max_batch_size=self.source.max_batch_size,
            classes=interface.classes if interface else 0,
            revision=self.revision,
            input=interface.input if interface else InputInfo(),
            output_name=interface.output_name if interface else "",
            offered=config.inputs,
            instances=tuple(
                InstanceInfo(
                    device=worker.device,
                    backend=ready.backend,
                    precision=ready.precision,
                    simulated=ready.simulated,
                    load_seconds=(worker.in_service_since or 0.0) - worker.started_at,
                    batch_seconds=ready.batch_seconds,
                )
                for worker in self.workers
                if (ready := worker.ready) is not None
            ),
        )

    def _log_ready(self, worker: Worker, ready: WorkerReady) -> None:
        costs = ", ".join(f"{size}: {seconds * 1e3:.2f} ms" for size, seconds in ready.batch_seconds.items())
        logger.info(
            "model %s version %s is ready on %s: %s%s, precision %s, measured batch costs %s",
            self.name,
            self.version,
            worker.device,
            "SIMULATED, " if ready.simulated else "",
            ready.backend,
            ready.precision,
            costs,
        )
        if golden := ready.golden:
            accuracy = "" if golden.accuracy is None else f", top-1 accuracy {golden.accuracy:.4f}"
            logger.info(
                "model %s version %s passed its golden check: %d images, off by at most %.4f, %d labelled%s, %.1f s",
                self.name,
                self.version,
                golden.images,
                golden.largest_difference,
                golden.labelled,
                accuracy,
                golden.seconds,
            )
