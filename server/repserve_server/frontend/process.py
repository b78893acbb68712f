"""A frontend process: wires the protocols to the dataplane and follows what the supervisor says."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from repserve_server.channel.control import ControlChannel, ControlMessage
from repserve_server.channel.dialogue import Dialogue
from repserve_server.channel.link import LinkClosedError
from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.recorder import Recorder
from repserve_server.dataplane.tracing import Tracing
from repserve_server.frontend.administration import RemoteAdministration
from repserve_server.frontend.listeners import listening_sockets
from repserve_server.frontend.models import ModelMessages
from repserve_server.frontend.regions import FrontendRegions
from repserve_server.logs import configure_logging, set_log_level
from repserve_server.metrics import take_snapshot
from repserve_server.process import become_child
from repserve_server.protocols.grpc.classification import ClassificationService
from repserve_server.protocols.grpc.health import Health
from repserve_server.protocols.grpc.inference import InferenceService
from repserve_server.protocols.grpc.server import create_grpc_server
from repserve_server.protocols.http.server import RestServer
from repserve_server.protocols.kserve.core import InferenceCore

logger = logging.getLogger(__name__)

_COLLECT_AFTER = 5_000
"""Objects more than were freed, after which the youngest generation is collected; Python's own 700 is for scripts.

Ten times as many held up every request for 20 to 80 ms once a second (1,200 requests a second, measured).
"""

STOP_SECONDS = 2.0
"""Time for the last answers to leave once everything is answered."""


class Frontend:
    """One frontend: made in its event loop, started with the supervisor's first message."""

    def __init__(self, control: ControlChannel, settings: dict[str, Any]) -> None:
        self._control = control
        self._metrics = FrontendMetrics()
        self._table = ModelTable()
        self._models = ModelMessages(self._table, self._metrics)
        self._decoding = DecodePool(settings["decode_threads"], settings["max_image_pixels"])
        self._dataplane = Dataplane(self._table, self._decoding)
        self._health = Health()
        self._regions = FrontendRegions(settings["regions"])
        self._dialogue = Dialogue(self._send, self._regions.answerers)
        administration = RemoteAdministration(self._dialogue, settings["load_timeout_seconds"])
        max_seconds = settings["default_timeout_seconds"]
        endpoint = settings["otlp_endpoint"]
        self._tracing = Tracing(endpoint, settings["trace_sample_ratio"]) if endpoint else None
        recorder = Recorder(self._metrics, self._tracing)
        core = InferenceCore(self._dataplane, administration, self._regions.regions, max_seconds)
        self._server = create_grpc_server(
            ClassificationService(self._dataplane, recorder, max_seconds),
            InferenceService(core, self._dataplane.draining, recorder),
            self._health,
            settings["address"],
        )
        self._rest = RestServer(core, recorder)
        self._http_address: tuple[str, int] = (settings["host"], settings["http_port"])
        self._ports = (settings["grpc_port"], settings["http_port"])
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[[ControlMessage], None]] = {
            "labels": self._models.take_labels,
            "model": self._take_model,
            "ready": self._take_ready,
            "open": self._models.open_queue,
            "attach": self._models.attach_worker,
            "detach": self._models.detach_worker,
            "retire": lambda message: self._begin(self._retire(message.body["revision"])),
            "metrics": self._report_metrics,
            "log_level": lambda message: set_log_level(message.body["level"]),
            "grace": lambda _: self._health.go(),
            "drain": lambda _: self._begin(self._drain()),
            "stop": lambda _: self._stopped.set(),
        }

    async def run(self) -> None:
        """Serve until the supervisor says stop or is gone."""
        await self._server.start()
        await self._rest.start(*self._http_address)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._take_control_messages)
        self._say_started()
        await self._stopped.wait()
        self._report_unanswered()
        loop.remove_reader(self._control.fileno())
        loop.remove_writer(self._control.fileno())
        self._dialogue.close()
        self._health.close()
        await asyncio.gather(self._server.stop(STOP_SECONDS), self._rest.stop())
        self._models.close()
        self._decoding.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close, STOP_SECONDS)

    def _send(self, kind: str, body: dict[str, Any] | None = None) -> None:
        try:
            self._control.send(kind, body)
        except LinkClosedError:
            self._stopped.set()
        self._watch_backlog()

    def _watch_backlog(self) -> None:
        """What the supervisor has not read yet leaves when it has room."""
        if self._control.has_backlog:
            asyncio.get_running_loop().add_writer(self._control.fileno(), self._flush)

    def _flush(self) -> None:
        try:
            self._control.flush()
        except LinkClosedError:
            self._stopped.set()
        if not self._control.has_backlog or self._stopped.is_set():
            asyncio.get_running_loop().remove_writer(self._control.fileno())

    def _say_started(self) -> None:
        """With the listening sockets: the supervisor holds them too, and they listen on if this process dies."""
        held = listening_sockets(self._ports)
        try:
            self._control.send("started", None, [one.fileno() for one in held])
        except LinkClosedError:
            self._stopped.set()
        for one in held:
            one.close()

    def _take_control_messages(self) -> None:
        try:
            while (message := self._control.receive()) is not None:
                if not self._dialogue.take(message.kind, message.body):
                    self._handlers[message.kind](message)
        except LinkClosedError:
            logger.warning("the supervisor is gone; stopping")
            self._stopped.set()

    def _take_model(self, message: ControlMessage) -> None:
        self._models.take_model(message)
        self._health.update(self._table)

    def _take_ready(self, message: ControlMessage) -> None:
        self._table.server_ready = message.body["ready"]
        self._health.update(self._table)

    def _report_unanswered(self) -> None:
        """Say what is dropped when the server ends before all is answered."""
        requests = self._dataplane.requests_in_flight
        if requests:
            images = ", ".join(
                f"{count} images of model {name} version {version}"
                for (name, version), count in self._table.occupied().items()
                if count
            )
            logger.error("%d requests are dropped unanswered: %s", requests, images or "none of them with an image yet")

    def _report_metrics(self, _: ControlMessage) -> None:
        self._metrics.show(self._table.occupied(), self._dataplane.requests_in_flight)
        snapshot = take_snapshot(self._metrics.registry)
        self._send("metrics", {"snapshot": snapshot})

    async def _retire(self, revision: int) -> None:
        await self._models.retire(revision)
        self._send("retired", {"revision": revision})

    async def _drain(self) -> None:
        self._health.go()
        await self._dataplane.drain()
        self._send("drained")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(control: ControlChannel, settings: dict[str, Any]) -> None:
    await Frontend(control, settings).run()


def main(arguments: list[str]) -> int:
    """``python -m repserve_server.frontend.process CONTROL_DESCRIPTOR SUPERVISOR_PID``, started by the supervisor."""
    descriptor, parent = (int(argument) for argument in arguments)
    become_child(parent, "repserve-front")
    control = ControlChannel(socket.socket(fileno=descriptor), blocking=True)
    try:
        message = control.receive()
    except LinkClosedError:
        return 1
    if message is None or message.kind != "serve":
        raise ValueError(f"expected the message 'serve' first, got {message}")
    configure_logging(message.body["process"], message.body["log_level"], message.body["log_format"])
    control.socket.setblocking(False)
    # What was made at start lives as long as the process; let the collector look at requests only, and seldom.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    uvloop.run(_serve(control, message.body))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
