"""The workers: started, listened to, and started again when they end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repserve_server.channel.message import MetricsReport, Stop
from repserve_server.channel.worker_messages import FROM_WORKER, FromWorker, LoadFailed, WorkerReady
from repserve_server.process import available_cpus
from repserve_server.supervisor.child import Child, describe_exit
from repserve_server.supervisor.models import LOAD_ATTEMPTS, ModelVersion, Worker, WorkerChild
from repserve_server.supervisor.watchdog import hung_workers

if TYPE_CHECKING:
    from repserve_server.logs import LogLevel
    from repserve_server.settings import Settings
    from repserve_server.supervisor.metrics import ServerMetrics

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long a worker that is told to stop may take before it is killed."""


@dataclass(frozen=True)
class WorkerEvents:
    """Whom the workers' news concerns.

    Attributes:
        ready: a worker takes images from now on.
        ended: a worker's process, which had this name, has ended; whether an image may be the reason.
        changed: the state of a model may have changed.
        metrics: a child has sent its counts.
    """

    ready: Callable[[ModelVersion, Worker], None]
    ended: Callable[[ModelVersion, str, bool], None]
    changed: Callable[[], None]
    metrics: Callable[[Child[Any], MetricsReport], None]


class Workers:
    """Keeps the workers of every model version running, until the version is stopped."""

    def __init__(
        self, settings: Settings, metrics: ServerMetrics, events: WorkerEvents, log_level: Callable[[], LogLevel]
    ) -> None:
        self._settings, self._metrics, self._events = settings, metrics, events
        self._log_level = log_level
        self._loop = asyncio.get_running_loop()
        self._stopped: set[ModelVersion] = set()
        self.restarting = True
        on_cpu = sum(device == "cpu" for device in settings.device) * settings.instance_count
        self._threads = max(1, available_cpus() // max(1, on_cpu))

    def start(self, model: ModelVersion) -> None:
        """Start every worker of a version."""
        for worker in model.workers:
            self._start(model, worker)

    async def stop(self, model: ModelVersion) -> None:
        """End every worker of a version, and return when none is left."""
        self._stopped.add(model)
        children = [worker.child for worker in model.workers if worker.child is not None]
        for child in children:
            child.send(Stop())
        waiting = [asyncio.ensure_future(child.exited.wait()) for child in children]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_SECONDS)
            for child in children:
                child.kill()
            await asyncio.wait(waiting)
        self._stopped.discard(model)

    def kill_hung(self, models: list[ModelVersion]) -> None:
        """End workers that do not answer any more; they are replaced, and their images go elsewhere."""
        for worker, silent in hung_workers(models, self._settings, self._loop.time()):
            if worker.child is not None:
                doing = "loading its model" if worker.ready is None else "a run on the device"
                logger.error("%s has not answered for %.1f s, in %s; it is killed", worker.child.name, silent, doing)
                if worker.ready is None:
                    worker.reported = f"it was still loading its model after {silent:.0f} s (load_timeout_seconds)"
                worker.hung = True
                self._metrics.hung_processes.labels("worker").inc()
                worker.child.kill()

    def _start(self, model: ModelVersion, worker: Worker) -> None:
        worker.starts += 1
        worker.reported, worker.started_at = "", self._loop.time()
        name = f"worker {model.name}/{model.version}@{worker.device}#{worker.index}.{model.revision}.{worker.starts}"
        worker.child = Child(
            name,
            "worker",
            "repserve_server.worker.process",
            FROM_WORKER,
            on_message=lambda child, message: self._take(model, worker, child, message),
            on_exit=lambda child: self._end(model, worker, child),
        )
        self._metrics.processes.add(worker.child.pid, "worker")
        settings = self._settings.model_copy(update={"log_level": self._log_level()})
        worker.child.send(model.load_message(worker, settings, self._threads))

    def _take(self, model: ModelVersion, worker: Worker, child: WorkerChild, message: FromWorker) -> None:
        match message:
            case WorkerReady():
                self._take_ready(model, worker, child, message)
            case LoadFailed():
                worker.reported = message.reason
                logger.error("%s cannot serve: %s", child.name, worker.reported)
            case MetricsReport():
                self._events.metrics(child, message)

    def _take_ready(self, model: ModelVersion, worker: Worker, child: WorkerChild, ready: WorkerReady) -> None:
        if model.interface and ready.interface != model.interface:
            # All workers of a model share slots: one that reads them otherwise would answer wrongly.
            worker.failure = f"it takes or gives {ready.interface}, and the model's first worker {model.interface}"
            logger.error("%s cannot serve: %s", child.name, worker.failure)
            child.send(Stop())
            return
        worker.ready, worker.ready_since = ready, self._loop.time()
        worker.failed_loads = 0
        first, model.was_ready, model.interface = not model.was_ready, True, ready.interface
        costs = ", ".join(f"{size}: {seconds * 1e3:.2f} ms" for size, seconds in ready.batch_seconds.items())
        logger.info(
            "model %s version %s is ready on %s: %s%s, precision %s, measured batch costs %s",
            model.name,
            model.version,
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
                model.name,
                model.version,
                golden.images,
                golden.largest_difference,
                golden.labelled,
                accuracy,
                golden.seconds,
            )
        if first:
            self._try_given_up_again(model)
        self._events.ready(model, worker)
        self._events.changed()

    def _end(self, model: ModelVersion, worker: Worker, child: WorkerChild) -> None:
        self._metrics.forget(child)
        served = 0.0 if worker.ready is None else self._loop.time() - worker.ready_since
        loading = worker.ready is None
        worker.child = worker.ready = None
        # Killed from outside: no image is to blame. Everything else may be an image's doing, a hang too.
        crashed = worker.hung or child.returncode != -signal.SIGKILL
        hung, worker.hung = worker.hung, False
        self._events.ended(model, child.name, crashed)
        if not self.restarting or model in self._stopped:
            return
        # Killed from outside says nothing about a model that could be loaded before.
        if loading and not worker.failure and (crashed or not model.was_ready):
            self._count_failed_load(model, worker, child, hung=hung)
        if not worker.failure:
            delay = worker.backoff.next_delay(served, killed=not crashed)
            self._start_later(model, worker, f"{child.name} {describe_exit(child.returncode)}", delay)
        self._events.changed()

    def _count_failed_load(self, model: ModelVersion, worker: Worker, child: WorkerChild, *, hung: bool) -> None:
        """A model that was never served is given up for a reason that its worker knows, or after several crashes.

        One that was served is tried for ever: the reason may pass, such as a device that another process holds.
        """
        worker.failed_loads += 1
        ended = f"its worker {describe_exit(child.returncode)} while loading, {worker.failed_loads} times in a row"
        worker.last_failure = worker.reported or ended
        if not model.was_ready and (worker.reported or hung or worker.failed_loads >= LOAD_ATTEMPTS):
            worker.failure = worker.last_failure
            logger.error("%s is given up: %s", child.name, worker.failure)

    def _try_given_up_again(self, model: ModelVersion) -> None:
        """The model can be served after all: whichever of its workers came first, the others get the same chance."""
        for worker in model.workers:
            if worker.failure and worker.child is None:
                worker.failure = ""
                delay = worker.backoff.next_delay()
                self._start_later(model, worker, f"a worker of {model.name} on {worker.device} was given up", delay)

    def _start_later(self, model: ModelVersion, worker: Worker, why: str, delay: float) -> None:
        logger.error("%s; starting it again in %.1f s", why, delay)
        self._metrics.restarts.labels("worker").inc()
        self._loop.call_later(delay, self._restart, model, worker)

    def _restart(self, model: ModelVersion, worker: Worker) -> None:
        if not self.restarting or model in self._stopped or model.gone.is_set() or worker.child is not None:
            return
        try:
            self._start(model, worker)
        except OSError:
            logger.exception("a worker of %s cannot be started; trying again", model.name)
            self._loop.call_later(worker.backoff.next_delay(), self._restart, model, worker)
