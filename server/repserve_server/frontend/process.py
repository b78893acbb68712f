"""A frontend process: wires the protocols to the dataplane and obeys the supervisor."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from repserve_server.channel.calls import Caller, attempt
from repserve_server.channel.control import ControlChannel, ControlPump, Received
from repserve_server.channel.frontend_messages import (
    TO_FRONTEND,
    AttachWorker,
    BecomeUnready,
    DetachWorker,
    Drain,
    Drained,
    OpenQueue,
    Retired,
    RetireRevision,
    Started,
    StartFrontend,
    ToFrontend,
    UpdateModel,
    UpdateReadiness,
)
from repserve_server.channel.link import LinkClosedError
from repserve_server.channel.message import CollectMetrics, MetricsReport, SetLogLevel, Stop
from repserve_server.channel.requests import Call, Reply
from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.recorder import Recorder
from repserve_server.dataplane.regions import Regions
from repserve_server.dataplane.tracing import Tracing
from repserve_server.frontend.administration import RemoteAdministration
from repserve_server.frontend.models import ModelMessages
from repserve_server.frontend.regions import FrontendRegions
from repserve_server.logs import configure_logging, set_log_level
from repserve_server.metrics import collect_families
from repserve_server.process import become_child
from repserve_server.protocols.console.page import PageRoutes
from repserve_server.protocols.grpc.classification import ClassificationService
from repserve_server.protocols.grpc.health import Health
from repserve_server.protocols.grpc.inference import InferenceService
from repserve_server.protocols.grpc.server import create_grpc_server
from repserve_server.protocols.http.routes import RestRoutes
from repserve_server.protocols.http.server import HttpServer
from repserve_server.protocols.kserve.core import InferenceCore

logger = logging.getLogger(__name__)

_COLLECT_AFTER = 5_000
"""Objects more than were freed, after which the youngest generation is collected; Python's own 700 is for scripts.

Ten times as many held up every request for 20 to 80 ms once a second (1,200 requests a second, measured).
"""

STOP_SECONDS = 2.0
"""Time for the last answers to leave once everything is answered."""


class Frontend:
    """One frontend: made in its event loop, run with the supervisor's first message."""

    def __init__(self, control: ControlChannel[ToFrontend], settings: StartFrontend) -> None:
        self._settings = settings
        self._control = ControlPump(control, self._take, self._end)
        self._metrics = FrontendMetrics()
        self._table = ModelTable(complete=False)
        self._models = ModelMessages(self._table, self._metrics)
        self._decoding = DecodePool(settings.decode_threads, settings.max_image_pixels)
        self._dataplane = Dataplane(self._table, self._decoding)
        self._health = Health()
        regions = Regions()
        self._regions = FrontendRegions(regions)
        self._supervisor = Caller(self._control.send)
        administration = RemoteAdministration(self._supervisor, settings.load_timeout_seconds)
        max_seconds = settings.default_timeout_seconds
        endpoint = settings.otlp_endpoint
        self._tracing = Tracing(endpoint, settings.trace_sample_ratio) if endpoint else None
        recorder = Recorder(self._metrics, self._tracing)
        core = InferenceCore(self._dataplane, administration, regions, max_seconds)
        self._server = create_grpc_server(
            ClassificationService(self._dataplane, recorder, max_seconds),
            InferenceService(core, self._dataplane.draining, recorder),
            self._health,
            settings.address,
        )
        self._http = HttpServer([*RestRoutes(core, recorder).table(), *PageRoutes(core).table()])
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the supervisor stops it or is gone."""
        self._regions.open_all(self._settings.regions)
        await self._server.start()
        await self._http.start(self._settings.host, self._settings.http_port)
        self._control.start()
        self._control.send(Started())
        await self._stopped.wait()
        self._report_unanswered()
        self._supervisor.close()
        self._control.close()
        self._health.close()
        await asyncio.gather(self._server.stop(STOP_SECONDS), self._http.stop())
        self._models.close()
        self._decoding.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close, STOP_SECONDS)

    def _end(self) -> None:
        logger.warning("the supervisor is gone; stopping")
        self._stopped.set()

    def _take(self, received: Received[ToFrontend]) -> None:  # noqa: PLR0912 - a branch for each message
        message, descriptors = received
        match message:
            case UpdateModel():
                self._models.update(message)
                self._health.update(self._table)
            case UpdateReadiness():
                self._table.complete, self._table.server_ready = True, message.ready
                self._health.update(self._table)
            case OpenQueue():
                self._models.open_queue(message, *descriptors)
            case AttachWorker():
                self._models.attach_worker(message, *descriptors)
            case DetachWorker():
                self._models.detach_worker(message)
            case RetireRevision():
                self._begin(self._retire(message.revision))
            case CollectMetrics():
                self._begin(self._report_metrics())
            case SetLogLevel():
                set_log_level(message.level)
            case BecomeUnready():
                self._health.go()
            case Drain():
                self._begin(self._drain())
            case Stop():
                self._stopped.set()
            case Reply():
                self._supervisor.take(message)
            case Call(number=number, request=request):
                response = attempt(request, lambda: self._regions.handle(request))
                self._control.send(Reply(number=number, response=response))
            case StartFrontend():
                raise ValueError("a frontend is started once")

    def _report_unanswered(self) -> None:
        """Log what is dropped when the server ends before every request is answered."""
        requests = self._dataplane.requests_in_flight
        if requests:
            images = ", ".join(
                f"{count} images of model {name} version {version}"
                for (name, version), count in self._table.occupied().items()
                if count
            )
            logger.error("%d requests are dropped unanswered: %s", requests, images or "none of them with an image yet")

    async def _report_metrics(self) -> None:
        """Collect family by family: with many models, all of them at once would hold up requests."""
        self._metrics.show(self._table.occupied(), self._dataplane.requests_in_flight)
        families = []
        for family in collect_families(self._metrics.registry):
            families.append(family)
            await asyncio.sleep(0)
        self._control.send(MetricsReport(snapshot=tuple(families)))

    async def _retire(self, revision: int) -> None:
        await self._models.retire(revision)
        self._control.send(Retired(revision=revision))

    async def _drain(self) -> None:
        self._health.go()
        await self._dataplane.drain()
        self._control.send(Drained())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(control: ControlChannel[ToFrontend], settings: StartFrontend) -> None:
    await Frontend(control, settings).run()


def main(arguments: list[str]) -> int:
    """``python -m repserve_server.frontend.process CONTROL_DESCRIPTOR SUPERVISOR_PID``, started by the supervisor."""
    descriptor, parent = (int(argument) for argument in arguments)
    become_child(parent, "repserve-front")
    control = ControlChannel(socket.socket(fileno=descriptor), TO_FRONTEND, blocking=True)
    try:
        received = control.receive()
    except LinkClosedError:
        return 1
    if received is None or not isinstance(settings := received.message, StartFrontend):
        raise ValueError(f"expected StartFrontend first, got {received}")
    configure_logging(settings.identity.process, settings.identity.log_level, settings.identity.log_format)
    control.socket.setblocking(False)
    # What was made at start lives as long as the process; let the collector look at requests only, and seldom.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    uvloop.run(_serve(control, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
