"""The supervisor: the server's first process. It carries no image."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING

from repserve_server.channel.message import Stop
from repserve_server.repository.scan import ModelFolder, scan_repository
from repserve_server.supervisor.catalogue import Catalogue
from repserve_server.supervisor.fleet import Fleet
from repserve_server.supervisor.follower import Follower, choose_models, held_at_start
from repserve_server.supervisor.http import OperatorServer
from repserve_server.supervisor.metrics import ServerMetrics
from repserve_server.supervisor.ports import PortReservation, client_host, join_address
from repserve_server.supervisor.questions import Questions
from repserve_server.supervisor.regions import RegionTable

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.channel.requests import AnyRequest, AnyResponse
    from repserve_server.settings import Settings

logger = logging.getLogger(__name__)

METRICS_SECONDS = 1.0
"""How often the children's counts are taken; a dead process's counts since the last time are lost."""
SCRAPE_SECONDS = 0.5
"""How long a scrape waits for a busy child before it shows that child's last counts."""
STOP_SECONDS = 5.0
"""How long a child may take to end once it has nothing left to do."""


class NothingToServeError(Exception):
    """No model of the repository can be served."""


class Supervisor:
    """Runs the server from start to exit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._changed = asyncio.Event()
        self._signals = 0
        self._first_signal: signal.Signals | None = None
        self._signalled = asyncio.Event()
        self._draining = False
        self._announced = False
        self._loop = asyncio.get_running_loop()
        folders = self._choose_folders()
        self._metrics = ServerMetrics(lambda: self._infos)
        self._reservations = [
            PortReservation(settings.host, settings.grpc_port, "--grpc-port"),
            PortReservation(settings.host, settings.http_port, "--http-port"),
        ]
        grpc_port, http_port = self._ports = tuple(reservation.port for reservation in self._reservations)
        self._http = OperatorServer(
            settings.host,
            settings.metrics_port,
            self._metrics.registry,
            self._refresh_metrics,
            self._readiness,
        )
        self._fleet = Fleet(settings, (grpc_port, http_port), self._metrics, self._handle, on_change=self._take_change)
        self._catalogue = Catalogue(settings, self._fleet, self._tell_models)
        self._regions = RegionTable(self._fleet.frontends)
        self._fleet.frontends.regions = lambda: self._regions.regions
        self._questions = Questions(
            settings,
            self._catalogue,
            self._regions,
            self._fleet,
            metrics=self._metrics,
            refresh=self._ask_metrics,
        )
        self._first_folders = folders

    async def run(self) -> int:
        """Serve until a signal, then drain.

        Returns:
            The exit status: 0 when every request that was taken was answered.

        Raises:
            NothingToServeError: no model can be served.
        """
        if self._settings.ready_file is not None:
            # One that a server left which was killed.
            self._settings.ready_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._take_signal, number)
        self._http.start()
        self._fleet.frontends.start()
        self._catalogue.hold(held_at_start(self._first_folders, self._settings))
        self._catalogue.take(self._first_folders)
        follower = Follower(self._settings, self._catalogue, self._first_folders)
        tasks = [self._loop.create_task(work) for work in (self._tick(), follower.run())]
        for task in tasks:
            task.add_done_callback(_log_end)
        try:
            await self._serve()
            return await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await self._stop()

    def _choose_folders(self) -> list[ModelFolder]:
        folders = scan_repository(self._settings.model_repository)
        wanted = set(self._settings.model)
        missing = wanted - {folder.name for folder in folders}
        if missing or not folders:
            names = ", ".join(folder.name for folder in folders) or "no models"
            asked = f"has no model {', '.join(sorted(missing))}; " if missing else ""
            raise NothingToServeError(f"{self._settings.model_repository} {asked}it has {names}")
        return choose_models(folders, self._settings)

    async def _serve(self) -> None:
        """Until a signal comes: announce readiness once, and give up when nothing can ever be served."""
        signalled = asyncio.ensure_future(self._signalled.wait())
        while not signalled.done():
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((changed, signalled), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            self._changed.clear()
            if not self._announced:
                self._check_servable()
                if self._readiness()[0]:
                    self._announce()

    def _check_servable(self) -> None:
        infos = self._infos
        if all(info.state in ("absent", "failed", "unloaded") for info in infos):
            raise NothingToServeError("no model can be served: " + "; ".join(f"{i.name}: {i.reason}" for i in infos))

    def _announce(self) -> None:
        self._announced = True
        host = client_host(self._settings.host)
        grpc, http, metrics = (join_address(host, port) for port in (*self._ports, self._http.port))
        for info in self._infos:
            if not info.ready:
                logger.warning("model %s is not served: %s", info.name, info.reason)
            elif info.caution:
                logger.warning("model %s: %s", info.name, info.caution)
        logger.info("ready: gRPC on %s, HTTP on http://%s, metrics and health on http://%s", grpc, http, metrics)
        if self._settings.ready_file is not None:
            content = json.dumps(
                {"grpc": grpc, "http": f"http://{http}", "metrics": f"http://{metrics}", "pid": os.getpid()}
            )
            partial = self._settings.ready_file.with_name(self._settings.ready_file.name + ".part")
            partial.write_text(content, encoding="utf-8")
            partial.replace(self._settings.ready_file)

    async def _drain(self) -> int:
        """Say that the server goes, give load balancers time to notice, and let the frontends answer what they have."""
        self._draining = True
        self._fleet.frontends.go()
        hurried = self._signals
        if self._first_signal is signal.SIGTERM and self._settings.shutdown_delay_seconds:
            logger.info(
                "not ready any more; requests are taken for another %.1f s", self._settings.shutdown_delay_seconds
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until_signalled_again(hurried), self._settings.shutdown_delay_seconds)
        logger.info("draining: new requests are refused, those under way are answered")
        self._fleet.frontends.drain()
        deadline = self._loop.time() + self._settings.exit_timeout_seconds
        while not all(place.drained for place in self._fleet.frontends.places):
            self._changed.clear()
            remaining = deadline - self._loop.time()
            if remaining <= 0 or self._signals > hurried:
                why = "a second signal" if self._signals > hurried else f"{self._settings.exit_timeout_seconds:.0f} s"
                logger.error("the drain ended after %s with requests unanswered", why)
                return 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining)
        if any(place.lost for place in self._fleet.frontends.places):
            logger.error("a frontend died during the drain; its requests are lost")
            return 1
        logger.info("drained: every request under way was answered")
        return 0

    async def _until_signalled_again(self, signals: int) -> None:
        while self._signals <= signals:
            self._changed.clear()
            await self._changed.wait()

    async def _stop(self) -> None:
        """End frontends, then workers; whoever does not end by itself is killed."""
        self._fleet.no_more_restarts()
        for role in ("frontend", "worker"):
            children = [child for child in self._fleet.children if child.role == role]
            for child in children:
                child.send(Stop())
            waiting = [asyncio.ensure_future(child.exited.wait()) for child in children]
            if waiting:
                await asyncio.wait(waiting, timeout=STOP_SECONDS)
            for child in children:
                if child.alive:
                    logger.warning("%s did not end and is killed", child.name)
                    child.kill()
            if waiting:
                await asyncio.wait(waiting, timeout=STOP_SECONDS)
        if self._settings.ready_file is not None and self._announced:
            self._settings.ready_file.unlink(missing_ok=True)
        self._http.stop()
        for reservation in self._reservations:
            reservation.close()

    @property
    def _infos(self) -> list[ModelInfo]:
        return [info for infos in self._catalogue.describe().values() for info in infos]

    def _take_change(self) -> None:
        self._catalogue.settle()
        self._changed.set()

    async def _handle(self, request: AnyRequest) -> AnyResponse:
        return await self._questions.handle(request)

    def _tell_models(self) -> None:
        self._fleet.frontends.tell_models(self._catalogue.describe(), ready=self._readiness()[0])

    def _take_signal(self, number: int) -> None:
        self._signals += 1
        self._first_signal = self._first_signal or signal.Signals(number)
        logger.info("got %s", signal.Signals(number).name)
        self._signalled.set()
        self._changed.set()

    async def _tick(self) -> None:
        last = self._loop.time()
        while True:
            await asyncio.sleep(METRICS_SECONDS)
            now = self._loop.time()
            # Stopped or starved itself, the supervisor cannot have heard what the children say.
            self._fleet.excuse(now - last - METRICS_SECONDS)
            last = now
            self._fleet.ask_metrics()
            self._fleet.kill_hung()

    def _refresh_metrics(self) -> None:
        """Called from the HTTP threads: newest counts, or the last ones of children that are busy."""
        asked = asyncio.run_coroutine_threadsafe(self._ask_metrics(), self._loop)
        try:
            asked.result(2 * SCRAPE_SECONDS)
        except FutureTimeoutError:
            asked.cancel()

    async def _ask_metrics(self) -> None:
        self._fleet.ask_metrics()
        try:
            await asyncio.wait_for(self._fleet.metrics_answered.wait(), SCRAPE_SECONDS)
        except TimeoutError:
            return

    def _readiness(self) -> tuple[bool, str]:
        if self._draining:
            return False, "draining"
        waiting = [info.name for info in self._infos if info.state == "loading"]
        if waiting and not self._announced:
            return False, f"loading: {', '.join(waiting)}"
        started = [place.started for place in self._fleet.frontends.places]
        if not (any(started) if self._announced else all(started)):
            return False, "a frontend is starting"
        ready = any(info.ready for info in self._infos)
        return ready, "ready" if ready else "no model is ready"


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("a part of the supervisor has ended; the rest goes on", exc_info=error)
