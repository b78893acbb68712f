"""The fleet: every frontend and worker process, kept running and connected to each other."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from repserve_server.channel.control import ControlMessage
from repserve_server.channel.link import link_pair
from repserve_server.channel.slots import create_area_descriptor
from repserve_server.process import available_cpus
from repserve_server.settings import Settings
from repserve_server.supervisor.backoff import Backoff
from repserve_server.supervisor.child import Child, describe_exit
from repserve_server.supervisor.metrics import ServerMetrics
from repserve_server.supervisor.models import LOAD_ATTEMPTS, ModelVersion, Worker
from repserve_server.supervisor.watchdog import hung_workers

logger = logging.getLogger(__name__)

_LABELS_A_MESSAGE = 500


@dataclass(eq=False)
class FrontendPlace:
    """A place for a frontend process, and the process there now."""

    index: int
    child: Child | None = None
    started: bool = False
    drained: bool = False
    lost: bool = False
    starts: int = 0
    areas: dict[ModelVersion, int] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=lambda: Backoff(time.monotonic))


class Fleet:
    """Starts children, restarts those that die, and introduces frontends and workers to each other.

    A frontend and a worker share a slot area of the frontend's and a socket pair; both are made here and handed over,
    so they have no names, and a new process gets them just as the first one did.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        models: list[ModelVersion],
        metrics: ServerMetrics,
        on_change: Callable[[], None],
    ) -> None:
        self._settings, self._address = settings, address
        self.models = models
        self.frontends = [FrontendPlace(index) for index in range(settings.frontend_count)]
        self._metrics = metrics
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._restarting = True
        self._draining = False
        self.metrics_answered = asyncio.Event()
        on_cpu = sum(device == "cpu" for device in settings.device) * settings.instances
        self._threads = max(1, available_cpus() // max(1, on_cpu))

    @property
    def children(self) -> list[Child]:
        """The processes that run now."""
        workers = [worker.child for model in self.models for worker in model.workers]
        places = [place.child for place in self.frontends]
        return [child for child in (*places, *workers) if child is not None and child.alive]

    def start(self) -> None:
        """Start every process."""
        for place in self.frontends:
            self._start_frontend(place)
        for model in self.models:
            for worker in model.workers:
                self._start_worker(model, worker)

    def drain(self) -> None:
        """Have every frontend refuse new requests and answer those it has; one that dies is not replaced any more."""
        self._draining = True
        for place in self.frontends:
            if place.child is not None:
                place.child.send("drain")
            else:
                place.drained = True

    def no_more_restarts(self) -> None:
        """Let processes end from now on."""
        self._restarting = False

    def ask_metrics(self) -> None:
        """Ask each child for its counts, unless it still has to answer the last question."""
        self.metrics_answered.clear()
        for child in self.children:
            if child.asked_at is None:
                child.asked_at = self._loop.time()
                child.send("metrics")

    def kill_hung_workers(self) -> None:
        """End workers that do not answer any more; they are replaced, and their images go elsewhere."""
        for worker, silent in hung_workers(self.models, self._settings, self._loop.time()):
            if worker.child is not None:
                doing = "loading its model" if worker.ready is None else "a run on the device"
                logger.error("%s has not answered for %.1f s, in %s; it is killed", worker.child.name, silent, doing)
                worker.hung = True
                self._metrics.hung_workers.inc()
                worker.child.kill()

    def tell_models(self) -> None:
        """Tell the frontends the state of every model."""
        body = {"models": [model.describe().to_body() for model in self.models]}
        for place in self.frontends:
            if place.started and place.child is not None:
                place.child.send("models", body)
        self._on_change()

    def _start_frontend(self, place: FrontendPlace) -> None:
        place.starts += 1
        name = f"frontend {place.index}.{place.starts}"
        place.child = Child(
            name,
            "frontend",
            "repserve_server.frontend",
            lambda _, message: self._hear_frontend(place, message),
            lambda child: self._end_frontend(place, child),
        )
        self._metrics.processes.add(place.child.pid, "frontend")
        place.child.send(
            "serve",
            {
                "process": f"frontend {place.index}",
                "log_level": self._settings.log_level,
                "address": self._address,
                "decode_threads": self._settings.decode_thread_count,
                "max_image_pixels": self._settings.max_image_pixels,
                "max_request_seconds": self._settings.max_request_seconds,
            },
        )

    def _start_worker(self, model: ModelVersion, worker: Worker) -> None:
        worker.starts += 1
        name = f"worker {model.name}/{model.version}@{worker.device}#{worker.index}.{worker.starts}"
        worker.child = Child(
            name,
            "worker",
            "repserve_server.worker.process",
            lambda _, message: self._hear_worker(model, worker, message),
            lambda child: self._end_worker(model, worker, child),
        )
        self._metrics.processes.add(worker.child.pid, "worker")
        worker.child.send("load", model.load_body(worker, self._settings, self._threads))

    def _hear_frontend(self, place: FrontendPlace, message: ControlMessage) -> None:
        if place.child is None:
            return
        if message.kind == "started":
            place.started = True
            self._introduce_all(place, place.child)
            self.tell_models()
        elif message.kind == "drained":
            place.drained = True
            self._on_change()
        elif message.kind == "metrics":
            self._take_metrics(place.child, message)

    def _hear_worker(self, model: ModelVersion, worker: Worker, message: ControlMessage) -> None:
        if worker.child is None:
            return
        if message.kind == "ready":
            self._take_ready(model, worker, message)
        elif message.kind == "failed":
            reason = str(message.body["reason"])
            logger.error("%s cannot serve: %s", worker.child.name, reason)
            if not model.was_ready:
                # A model that was served before is tried again, like after a crash: the reason may have passed.
                worker.failure = reason
        elif message.kind == "metrics":
            self._take_metrics(worker.child, message)

    def _take_metrics(self, child: Child, message: ControlMessage) -> None:
        child.asked_at = None
        self._metrics.children.update(child.name, message.body["snapshot"])
        if all(other.asked_at is None for other in self.children):
            self.metrics_answered.set()

    def _take_ready(self, model: ModelVersion, worker: Worker, message: ControlMessage) -> None:
        body = message.body
        shape = {key: body[key] for key in ("shape", "dtype", "classes", "input_name", "output_name")}
        if model.shape_body and shape != model.shape_body and worker.child is not None:
            # All workers of a model share slots: one that reads them otherwise would answer wrongly.
            worker.failure = f"it takes or gives {shape}, and the model's first worker {model.shape_body}"
            logger.error("%s cannot serve: %s", worker.child.name, worker.failure)
            worker.child.send("stop")
            return
        worker.ready, worker.load_crashes = body, 0
        model.shape_body = shape
        model.was_ready = True
        costs = ", ".join(f"{size}: {seconds * 1e3:.2f} ms" for size, seconds in body["batch_seconds"].items())
        logger.info(
            "model %s version %s is ready on %s: %s%s, precision %s, measured batch costs %s",
            model.name,
            model.version,
            worker.device,
            "SIMULATED, " if body["simulated"] else "",
            body["backend"],
            body["precision"],
            costs,
        )
        for place in self.frontends:
            if place.started and place.child is not None:
                self._introduce(place, place.child, model, worker)
        self.tell_models()

    def _introduce_all(self, place: FrontendPlace, frontend: Child) -> None:
        for model in self.models:
            labels = model.folder.labels
            for first in range(0, len(labels), _LABELS_A_MESSAGE):
                frontend.send("labels", {"model": model.name, "labels": labels[first : first + _LABELS_A_MESSAGE]})
            for worker in model.ready_workers:
                self._introduce(place, frontend, model, worker)

    def _introduce(self, place: FrontendPlace, frontend: Child, model: ModelVersion, worker: Worker) -> None:
        """Give a frontend and a worker the slot area they share and the two ends of a link."""
        if worker.child is None or worker.ready is None:
            return
        layout = model.layout(self._settings.queue_size)
        names = {"model": model.name, "version": model.version, "revision": model.revision}
        if model not in place.areas:
            place.areas[model] = create_area_descriptor(layout, f"repserve:{model.name}/{model.version}")
            frontend.send(
                "open",
                {
                    **names,
                    "layout": asdict(layout),
                    "output": model.folder.config.output,
                    "best_image_seconds": worker.ready["best_image_seconds"],
                },
                [place.areas[model]],
            )
        frontend_end, worker_end = link_pair()
        with frontend_end, worker_end:
            worker.child.send(
                "attach",
                {"frontend": frontend.name, "layout": asdict(layout)},
                [place.areas[model], worker_end.fileno()],
            )
            frontend.send("attach", {**names, "worker": worker.child.name}, [frontend_end.fileno()])

    def _end_frontend(self, place: FrontendPlace, child: Child) -> None:
        self._forget(child)
        for descriptor in place.areas.values():
            os.close(descriptor)
        place.areas, place.started, place.child = {}, False, None
        if self._restarting and not self._draining:
            delay = place.backoff.next_delay()
            logger.error("%s %s; starting it again in %.1f s", child.name, describe_exit(child.returncode), delay)
            self._metrics.restarts.labels("frontend").inc()
            self._loop.call_later(delay, self._restart_frontend, place)
        else:
            place.lost = not place.drained
            place.drained = True
        self._on_change()

    def _end_worker(self, model: ModelVersion, worker: Worker, child: Child) -> None:
        self._forget(child)
        was_ready = worker.ready is not None
        worker.child = worker.ready = None
        # Killed from outside: no image is to blame. Everything else may be an image's doing, a hang too.
        crashed = worker.hung or child.returncode != -signal.SIGKILL
        worker.hung = False
        for place in self.frontends:
            if place.child is not None:
                place.child.send("detach", {"worker": child.name, "crashed": crashed})
        if not self._restarting:
            return
        if not was_ready and not worker.failure and not model.was_ready:
            worker.load_crashes += 1
            if worker.load_crashes >= LOAD_ATTEMPTS:
                worker.failure = f"its worker {describe_exit(child.returncode)} while loading, {LOAD_ATTEMPTS} times"
                logger.error("%s is given up: %s", child.name, worker.failure)
        if not worker.failure:
            delay = worker.backoff.next_delay()
            logger.error("%s %s; starting it again in %.1f s", child.name, describe_exit(child.returncode), delay)
            self._metrics.restarts.labels("worker").inc()
            self._loop.call_later(delay, self._restart_worker, model, worker)
        self.tell_models()

    def _restart_frontend(self, place: FrontendPlace) -> None:
        if not self._restarting or self._draining:
            return
        try:
            self._start_frontend(place)
        except OSError:
            logger.exception("frontend %d cannot be started; trying again", place.index)
            self._loop.call_later(place.backoff.next_delay(), self._restart_frontend, place)

    def _restart_worker(self, model: ModelVersion, worker: Worker) -> None:
        if not self._restarting:
            return
        try:
            self._start_worker(model, worker)
        except OSError:
            logger.exception("a worker of %s cannot be started; trying again", model.name)
            self._loop.call_later(worker.backoff.next_delay(), self._restart_worker, model, worker)

    def _forget(self, child: Child) -> None:
        self._metrics.children.end(child.name)
        self._metrics.processes.end(child.pid)
