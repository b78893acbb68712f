"""The controller: takes events as they come, and brings what there is closer to what is wanted.

What is wanted: the settings, the versions that the repository holds or that clients have loaded, regions, the level of
the log. What there is: the processes, and what they have reported. ``handle`` notes what has happened;
``reconcile`` compares, acts, and may be called at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from repserve_server.channel.frontend_messages import Drained, Retired, Started
from repserve_server.channel.message import MetricsReport
from repserve_server.channel.requests import Call, Reply
from repserve_server.channel.worker_messages import LoadFailed, WorkerReady
from repserve_server.supervisor.calls import Calls
from repserve_server.supervisor.catalogue import Catalogue
from repserve_server.supervisor.connections import connect, disconnect
from repserve_server.supervisor.events import (
    Event,
    MessageReceived,
    ModelScanned,
    ProcessExited,
    RepositoryScanned,
    ScrapeStarted,
    SignalReceived,
    TimerDue,
)
from repserve_server.supervisor.fleet import Fleet
from repserve_server.supervisor.frontends import Frontend
from repserve_server.supervisor.polling import MetricsPolling
from repserve_server.supervisor.regions import RegionTable
from repserve_server.supervisor.shutdown import Shutdown, Stage

if TYPE_CHECKING:
    from repserve_server.channel.frontend_messages import FromFrontend
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.channel.worker_messages import FromWorker
    from repserve_server.repository.scan import ModelFolder
    from repserve_server.supervisor.calls import ModelReader
    from repserve_server.supervisor.kept_process import Context
    from repserve_server.supervisor.models import ModelVersion
    from repserve_server.supervisor.workers import Worker


class Controller:
    """Runs frontends and the workers of the versions that are wanted, from start to stop.

    Args:
        context: what all processes share.
        folders: what the repository holds at the start.
        held: models that are not loaded before a client asks for them.
        reader: reads folders for clients who do.

    Attributes:
        infos: every version of every model.
        announced: whether the server has been ready.
        failure: why nothing can ever be served; empty otherwise.
    """

    def __init__(
        self, context: Context, folders: Iterable[ModelFolder], held: Iterable[str], reader: ModelReader
    ) -> None:
        self._context = context
        self._fleet = Fleet([Frontend(index, context) for index in range(context.wanted.settings.frontend_count)])
        self._catalogue = Catalogue(context, self._fleet, folders, held)
        self._polling = MetricsPolling(context, self._fleet)
        self._shutdown = Shutdown(context, self._fleet)
        self._regions = RegionTable(context, self._fleet)
        self._calls = Calls(context, self._catalogue, self._regions, self._polling, reader)
        self.infos: list[ModelInfo] = []
        self.announced = False
        self.failure = ""

    @property
    def exit_status(self) -> int | None:
        """The server's exit status; None while it runs."""
        return self._shutdown.status if self._shutdown.stage is Stage.STOPPED else None

    def readiness(self) -> tuple[bool, str]:
        """Whether the server is ready for load balancers, and why not."""
        if self._shutdown.stage is not Stage.SERVING:
            return False, "draining"
        waiting = [info.name for info in self.infos if info.state == "loading"]
        if waiting and not self.announced:
            return False, f"loading: {', '.join(waiting)}"
        listening = [frontend.listens for frontend in self._fleet.frontends]
        if not (any(listening) if self.announced else all(listening)):
            return False, "a frontend is starting"
        ready = any(info.ready for info in self.infos)
        return ready, "ready" if ready else "no model is ready"

    def handle(self, event: Event) -> None:
        """Note what has happened."""
        match event:
            case MessageReceived():
                self._take_message(event.process, event.message)
            case ProcessExited():
                self._take_exit(event.process, event.returncode)
            case RepositoryScanned():
                self._catalogue.take(event.folders)
            case ModelScanned():
                self._calls.take_folder(event)
            case SignalReceived():
                self._shutdown.take_signal(event.number)
            case ScrapeStarted():
                self._polling.scrape(event.counted)
            case TimerDue():
                pass

    def reconcile(self) -> None:
        """Compare what is wanted with what there is, and act."""
        self._polling.tick()
        self._shutdown.reconcile()
        if self._shutdown.stage < Stage.STOPPING_FRONTENDS:
            self._catalogue.reconcile()
        models = self._catalogue.describe()
        self.infos = [info for infos in models.values() for info in infos]
        self._check_start()
        fleet, slots = self._fleet, self._context.wanted.settings.max_queue_size
        connect(fleet.frontends, fleet.versions, slots)
        self._publish(models)
        # By now frontends know that these take no more requests.
        for version in [version for version in fleet.versions if version.retiring]:
            self._retire(version)
        for frontend in fleet.frontends:
            frontend.keep()
        for version in fleet.versions:
            version.keep(self._shutdown.worker_wish)
        self._catalogue.forget_gone()
        self._calls.reconcile()
        self._regions.reconcile()
        self._polling.reconcile()

    def next_due(self) -> float:
        """When ``reconcile`` has something to do even if nothing happens."""
        times = [process.next_due() for process in self._fleet.processes]
        return min(time for time in (*times, self._polling.next_due(), self._shutdown.next_due()) if time is not None)

    def _check_start(self) -> None:
        """Until the server is ready for the first time: whether it is, or never can be."""
        if self.announced or self._shutdown.stage is not Stage.SERVING:
            return
        if all(info.state in ("absent", "failed", "unloaded") for info in self.infos):
            self.failure = "no model can be served: " + "; ".join(f"{info.name}: {info.reason}" for info in self.infos)
            self._shutdown.stop()
            self._shutdown.reconcile()
        self.announced = self.readiness()[0]

    def _publish(self, models: dict[str, tuple[ModelInfo, ...]]) -> None:
        ready, _ = self.readiness()
        self._context.metrics.models.infos = self.infos
        for frontend in self._fleet.frontends:
            frontend.update(models, ready=ready)

    def _retire(self, version: ModelVersion) -> None:
        """Let a version go: once every frontend has answered what it had taken, its workers end."""
        for frontend in self._fleet.frontends:
            frontend.retire(version)
        version.released = all(version.revision not in frontend.areas for frontend in self._fleet.frontends)

    def _take_message(self, process: str, message: FromFrontend | FromWorker) -> None:
        frontend = self._find_frontend(process)
        version, worker = self._find_worker(process)
        kept = frontend or worker
        match message:
            case MetricsReport() if kept is not None:
                kept.requested_at = None
                self._context.metrics.update(process, message.snapshot)
            case WorkerReady() if worker is not None and version is not None:
                version.take_ready(worker, message)
            case LoadFailed() if worker is not None and version is not None:
                version.take_failure(worker, message.reason)
            case Started() if frontend is not None:
                frontend.take_started()
            case Retired() if frontend is not None:
                frontend.take_retired(message.revision)
            case Drained() if frontend is not None:
                frontend.drained = True
            case Call() if frontend is not None:
                self._calls.take(frontend, message)
            case Reply() if frontend is not None:
                self._regions.take_reply(frontend, message)
            case _:
                pass

    def _take_exit(self, process: str, returncode: int) -> None:
        frontend = self._find_frontend(process)
        version, worker = self._find_worker(process)
        if frontend is not None:
            frontend.exited(returncode)
        elif worker is not None and version is not None:
            disconnect(self._fleet.frontends, version, process, crashed=worker.crashed(returncode))
            version.take_exit(worker, returncode)

    def _find_frontend(self, process: str) -> Frontend | None:
        return next((f for f in self._fleet.frontends if f.child is not None and f.child.name == process), None)

    def _find_worker(self, process: str) -> tuple[ModelVersion, Worker] | tuple[None, None]:
        found = ((v, w) for v, w in self._fleet.workers if w.child is not None and w.child.name == process)
        return next(found, (None, None))
