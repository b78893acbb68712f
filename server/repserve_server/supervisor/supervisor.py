"""The supervisor: the server's first process. It carries no image."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from repserve_server.files import write_whole
from repserve_server.supervisor.child import ProcessLauncher
from repserve_server.supervisor.controller import Controller
from repserve_server.supervisor.events import Event, SignalReceived, TimerDue
from repserve_server.supervisor.follower import (
    Follower,
    NothingToServeError,
    RepositoryReader,
    held_at_start,
    read_repository,
)
from repserve_server.supervisor.http import OperatorServer
from repserve_server.supervisor.kept_process import Context, Wanted
from repserve_server.supervisor.metrics import ServerMetrics
from repserve_server.supervisor.ports import client_host, join_address, reserve_port

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.repository.scan import ModelFolder
    from repserve_server.settings import Settings

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Time after which a reconciliation that failed is retried."""


class Supervisor:
    """Runs the server from start to exit: feeds the controller with events, and reconciles after each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def run(self) -> int:
        """Serve until a signal, then drain.

        Returns:
            The exit status: 0 when every request that was taken was answered.

        Raises:
            NothingToServeError: no model can be served.
            PortTakenError: a port is taken.
        """
        settings = self._settings
        folders = read_repository(settings)
        with ExitStack() as reservations:
            grpc = reserve_port(settings.host, settings.grpc_port, "--grpc-port")
            reservations.callback(grpc.close)
            http = reserve_port(settings.host, settings.http_port, "--http-port")
            reservations.callback(http.close)
            return await self._run(folders, (grpc.port, http.port))

    async def _run(self, folders: list[ModelFolder], ports: tuple[int, int]) -> int:
        settings, emit = self._settings, self._events.put_nowait
        metrics = ServerMetrics()
        wanted = Wanted(settings, ports, settings.log_level)
        context = Context(wanted, ProcessLauncher(emit), metrics, time.monotonic)
        reader = RepositoryReader(settings.model_repository, emit)
        controller = Controller(context, folders, held_at_start(folders, settings), reader)
        operators = OperatorServer(metrics.registry, controller, emit)
        metrics_port = await operators.start(settings.host, settings.metrics_port)
        if settings.ready_file is not None:
            # One that a server left which was killed.
            settings.ready_file.unlink(missing_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, emit, SignalReceived(number))
        following = asyncio.create_task(Follower(settings, emit).run(folders))
        following.add_done_callback(_log_end)
        try:
            status = await self._control(controller, (*ports, metrics_port))
        finally:
            following.cancel()
            if settings.ready_file is not None and controller.announced:
                settings.ready_file.unlink(missing_ok=True)
            await operators.stop()
        if controller.failure:
            raise NothingToServeError(controller.failure)
        return status

    async def _control(self, controller: Controller, ports: tuple[int, int, int]) -> int:
        """Handle events, and reconcile after each batch of them, until the server has ended."""
        announced = False
        while True:
            reconciled = _attempt(controller.reconcile, f"reconciling failed; it is retried in {RETRY_SECONDS:.0f} s")
            if (status := controller.exit_status) is not None:
                return status
            if controller.announced and not announced:
                announced = True
                self._announce(controller.infos, ports)
            delay = max(0.0, controller.next_due() - time.monotonic()) if reconciled else RETRY_SECONDS
            timer = asyncio.get_running_loop().call_later(delay, self._events.put_nowait, TimerDue())
            events = [await self._events.get()]
            timer.cancel()
            while not self._events.empty():
                events.append(self._events.get_nowait())
            for event in events:
                dropped = f"the event {type(event).__name__} could not be handled; it is dropped"
                _attempt(functools.partial(controller.handle, event), dropped)

    def _announce(self, infos: list[ModelInfo], ports: tuple[int, int, int]) -> None:
        host = client_host(self._settings.host)
        grpc, http, metrics = (join_address(host, port) for port in ports)
        for info in infos:
            if not info.ready:
                logger.warning("model %s is not served: %s", info.name, info.reason)
            elif info.caution:
                logger.warning("model %s: %s", info.name, info.caution)
        logger.info("ready: gRPC on %s, HTTP on http://%s, metrics and health on http://%s", grpc, http, metrics)
        if self._settings.ready_file is not None:
            content = json.dumps(
                {"grpc": grpc, "http": f"http://{http}", "metrics": f"http://{metrics}", "pid": os.getpid()}
            )
            try:
                write_whole(self._settings.ready_file, content.encode())
            except OSError as error:
                logger.error("the ready file cannot be written: %s", error)  # noqa: TRY400 - the message says it all


def _attempt(step: Callable[[], None], failed: str) -> bool:
    """Whether a step succeeds; one that fails, such as for want of file descriptors, must not end the server."""
    try:
        step()
    except Exception:
        logger.exception(failed)
        return False
    return True


def _log_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("changes of the model repository are no longer noticed; restart the server", exc_info=error)
