"""The fleet: every frontend and worker process, introduced to each other, for the model versions that come and go."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from repserve_server.channel.frontend_messages import AttachWorker, DetachWorker, OpenQueue, RetireRevision
from repserve_server.channel.link import link_pair
from repserve_server.channel.message import CollectMetrics, MetricsReport, SetLogLevel
from repserve_server.channel.slots import SlotLayout, create_area_descriptor
from repserve_server.channel.worker_messages import AttachFrontend
from repserve_server.logs import LogLevel, set_log_level
from repserve_server.supervisor.frontends import FrontendChild, FrontendEvents, FrontendPlace, Frontends
from repserve_server.supervisor.workers import WorkerEvents, Workers

if TYPE_CHECKING:
    from repserve_server.channel.calls import Handler
    from repserve_server.settings import Settings
    from repserve_server.supervisor.child import Child
    from repserve_server.supervisor.metrics import ServerMetrics
    from repserve_server.supervisor.models import ModelVersion, Worker

logger = logging.getLogger(__name__)


class Fleet:
    """Runs frontends and the workers of the model versions it is given, and connects each with each.

    A frontend and a worker share a slot area of the frontend's and a socket pair; both are made here and handed over,
    so they have no names, and a new process gets them just as the first one did.

    Attributes:
        models: the versions that are loaded, those that retire included.
        frontends: the frontends.
        log_level: the level from which all processes log.
        metrics_answered: set when every child has answered the last question for its counts.
    """

    def __init__(
        self,
        settings: Settings,
        ports: tuple[int, int],
        metrics: ServerMetrics,
        handle: Handler,
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._loop = asyncio.get_running_loop()
        self.models: list[ModelVersion] = []
        self.log_level: LogLevel = settings.log_level
        self.metrics_answered = asyncio.Event()
        self._retired: dict[ModelVersion, set[FrontendPlace]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._workers = Workers(
            settings,
            metrics,
            WorkerEvents(self._introduce_worker, self._detach_worker, on_change, self._take_metrics),
            lambda: self.log_level,
        )
        self.frontends = Frontends(
            settings,
            ports,
            metrics,
            FrontendEvents(
                self._introduce_frontend,
                self._take_retired,
                self._forget_frontend,
                on_change,
                self._take_metrics,
                handle,
            ),
            lambda: self.log_level,
        )
        self._on_change = on_change

    @property
    def children(self) -> list[Child[Any]]:
        """The processes that run now."""
        workers = [worker.child for model in self.models for worker in model.workers]
        places = [place.child for place in self.frontends.places]
        return [child for child in (*places, *workers) if child is not None and child.alive]

    def load(self, model: ModelVersion) -> None:
        """Start the workers of a version."""
        self.models.append(model)
        self._workers.start(model)

    def retire(self, model: ModelVersion) -> None:
        """Let a version go: once every frontend has answered what it had taken, its workers end.

        It is marked as retiring, and the frontends were told that it takes nothing more.
        """
        holders = [place for place in self.frontends.places if model in place.areas]
        self._retired[model] = set(holders)
        for place in holders:
            if place.child is not None:
                place.child.send(RetireRevision(revision=model.revision))
        self._check_retired(model)

    def no_more_restarts(self) -> None:
        """Let processes end from now on."""
        self._workers.restarting = self.frontends.restarting = False

    def set_log_level(self, level: LogLevel) -> None:
        """Have every process log from a level on, this one and those that start later too."""
        self.log_level = level
        set_log_level(level)
        for child in self.children:
            child.send(SetLogLevel(level=level))

    def ask_metrics(self) -> None:
        """Ask each child for its counts, unless it still has to answer the last question."""
        self.metrics_answered.clear()
        for child in self.children:
            if child.asked_at is None:
                child.asked_at = self._loop.time()
                child.send(CollectMetrics())

    def excuse(self, seconds: float) -> None:
        """So many of the last seconds say nothing about how long the children have been silent."""
        for child in self.children:
            if child.asked_at is not None:
                child.asked_at += seconds

    def kill_hung(self) -> None:
        """End processes that do not answer any more; they are replaced."""
        self._workers.kill_hung(self.models)
        self.frontends.kill_hung()

    def _take_metrics(self, child: Child[Any], message: MetricsReport) -> None:
        child.asked_at = None
        self._metrics.update(child, message.snapshot)
        if all(other.asked_at is None for other in self.children):
            self.metrics_answered.set()

    def _introduce_frontend(self, place: FrontendPlace, frontend: FrontendChild) -> None:
        for model in self.models:
            if not model.retiring:
                for worker in model.ready_workers:
                    self._introduce(place, frontend, model, worker)

    def _introduce_worker(self, model: ModelVersion, worker: Worker) -> None:
        for place, frontend in self.frontends.listening:
            # A version that retires is not opened any more, but those that have images of it need the worker.
            if not model.retiring or place in self._retired.get(model, ()):
                self._introduce(place, frontend, model, worker)

    def _introduce(self, place: FrontendPlace, frontend: FrontendChild, model: ModelVersion, worker: Worker) -> None:
        """Give a frontend and a worker the slot area they share and the two ends of a link."""
        if worker.child is None or worker.ready is None:
            return
        layout = model.layout(self._settings.max_queue_size, worker.ready.interface)
        if model not in place.areas:
            self._open(place, frontend, model, layout, worker.ready.best_image_seconds)
        frontend_end, worker_end = link_pair()
        with frontend_end, worker_end:
            worker.child.send(
                AttachFrontend(frontend=frontend.name, layout=layout), [place.areas[model], worker_end.fileno()]
            )
            frontend.send(AttachWorker(revision=model.revision, worker=worker.child.name), [frontend_end.fileno()])

    @staticmethod
    def _open(
        place: FrontendPlace,
        frontend: FrontendChild,
        model: ModelVersion,
        layout: SlotLayout,
        best_image_seconds: float,
    ) -> None:
        """Give a frontend its slot area of a version, and the version's labels."""
        place.areas[model] = create_area_descriptor(layout, f"repserve:{model.name}/{model.version}")
        message = OpenQueue(
            model=model.name,
            version=model.version,
            revision=model.revision,
            labels=model.folder.labels,
            layout=layout,
            output=model.folder.config.output,
            best_image_seconds=best_image_seconds,
        )
        frontend.send(message, [place.areas[model]])

    def _detach_worker(self, model: ModelVersion, name: str, crashed: bool) -> None:
        self.frontends.send(DetachWorker(revision=model.revision, worker=name, crashed=crashed))

    def _take_retired(self, place: FrontendPlace, revision: int) -> None:
        for model in list(self._retired):
            if model.revision == revision:
                os.close(place.areas.pop(model))
                self._retired[model].discard(place)
                self._check_retired(model)

    def _forget_frontend(self, place: FrontendPlace) -> None:
        for model, holders in list(self._retired.items()):
            holders.discard(place)
            self._check_retired(model)

    def _check_retired(self, model: ModelVersion) -> None:
        if self._retired.get(model):
            return
        if self._retired.pop(model, None) is not None:
            task = self._loop.create_task(self._stop(model))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _stop(self, model: ModelVersion) -> None:
        await self._workers.stop(model)
        self.models.remove(model)
        if all((other.name, other.version) != (model.name, model.version) for other in self.models):
            self._metrics.forget_version(model.name, model.version)
        model.gone.set()
        logger.info("model %s version %s is unloaded", model.name, model.version)
        self._on_change()
