"""A frontend process: wires the protocols to the dataplane and follows what the supervisor says."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from typing import Any

import uvloop

from repserve_server.channel.control import ControlChannel, ControlMessage
from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.slots import SlotArea, SlotLayout
from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.models import ModelInfo, ModelTable
from repserve_server.dataplane.queue import ModelQueue
from repserve_server.logs import configure_logging
from repserve_server.metrics import take_snapshot
from repserve_server.process import become_child
from repserve_server.protocols.classification import ClassificationService
from repserve_server.protocols.grpc_server import create_grpc_server
from repserve_server.protocols.health import Health

logger = logging.getLogger(__name__)

_COLLECT_AFTER = 50_000
"""Objects more than were freed, after which the youngest generation is collected; Python's own 700 is for scripts."""

STOP_SECONDS = 2.0
"""Time for the last answers to leave once everything is answered."""


class Frontend:
    """One frontend: made in its event loop, started with the supervisor's first message."""

    def __init__(self, control: ControlChannel, settings: dict[str, Any]) -> None:
        self._control = control
        self._metrics = FrontendMetrics()
        self._models = ModelTable()
        self._decoding = DecodePool(settings["decode_threads"], settings["max_image_pixels"])
        self._dataplane = Dataplane(self._models, self._decoding, self._metrics)
        self._health = Health()
        service = ClassificationService(self._dataplane, self._metrics, settings["max_request_seconds"])
        self._server = create_grpc_server(service, self._health, settings["address"])
        self._labels: dict[str, tuple[str, ...]] = {}
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the supervisor says stop or is gone."""
        await self._health.update([])
        await self._server.start()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._take_control_messages)
        self._send("started")
        await self._stopped.wait()
        loop.remove_reader(self._control.fileno())
        await self._server.stop(STOP_SECONDS)
        for queue in self._models.queues:
            queue.close()
        self._decoding.close()

    def _send(self, kind: str, body: dict[str, Any] | None = None) -> None:
        try:
            self._control.send(kind, body)
        except LinkClosedError:
            self._stopped.set()

    def _take_control_messages(self) -> None:
        try:
            while (message := self._control.receive()) is not None:
                self._take(message)
        except LinkClosedError:
            logger.warning("the supervisor is gone; stopping")
            self._stopped.set()

    def _take(self, message: ControlMessage) -> None:
        body = message.body
        if message.kind == "labels":
            self._labels[body["model"]] = self._labels.get(body["model"], ()) + tuple(body["labels"])
        elif message.kind == "models":
            self._update_models(body["models"])
        elif message.kind == "open":
            self._open_queue(body, message.descriptors[0])
        elif message.kind == "attach":
            queue = self._models.queue(body["revision"])
            link = Link(socket.socket(fileno=message.descriptors[0]))
            if queue is not None:
                queue.attach(body["worker"], link)
        elif message.kind == "detach":
            for queue in self._models.queues:
                queue.detach(body["worker"], crashed=body["crashed"])
        elif message.kind == "metrics":
            self._metrics.show_queues(self._models.occupied())
            self._send("metrics", {"snapshot": take_snapshot(self._metrics.registry)})
        elif message.kind == "drain":
            self._begin(self._drain())
        elif message.kind == "stop":
            self._stopped.set()

    def _update_models(self, bodies: list[dict[str, Any]]) -> None:
        infos = [ModelInfo.from_body(body, self._labels.get(body["name"], ())) for body in bodies]
        self._models.update(infos)
        self._begin(self._health.update(infos))

    def _open_queue(self, body: dict[str, Any], memory: int) -> None:
        area = SlotArea(SlotLayout.from_body(body["layout"]), memory)
        os.close(memory)
        model = (body["model"], body["version"])
        metrics = self._metrics.for_queue(*model)
        queue = ModelQueue(model, area, body["output"], body["best_image_seconds"], metrics)
        self._models.open(body["revision"], queue)

    async def _drain(self) -> None:
        await self._health.drain()
        await self._dataplane.drain()
        self._send("drained")

    def _begin(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(control: ControlChannel, settings: dict[str, Any]) -> None:
    await Frontend(control, settings).run()


def main(arguments: list[str]) -> int:
    """``python -m repserve_server.frontend CONTROL_DESCRIPTOR SUPERVISOR_PID``, started by the supervisor."""
    descriptor, parent = (int(argument) for argument in arguments)
    become_child(parent, "repserve-front")
    control = ControlChannel(socket.socket(fileno=descriptor), blocking=True)
    try:
        message = control.receive()
    except LinkClosedError:
        return 1
    if message is None or message.kind != "serve":
        raise ValueError(f"expected the message 'serve' first, got {message}")
    configure_logging(message.body["process"], message.body["log_level"])
    control.socket.setblocking(False)
    # What was made at start lives as long as the process; let the collector look at requests only, and seldom.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    uvloop.run(_serve(control, message.body))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
