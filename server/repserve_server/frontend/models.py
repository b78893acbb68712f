"""What the supervisor says of models: their descriptions, queues, and workers that come and go."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from repserve_server.channel.link import Link
from repserve_server.channel.slots import SlotArea, SlotLayout
from repserve_server.dataplane.models import ModelInfo, ModelTable
from repserve_server.dataplane.queue import ModelQueue

if TYPE_CHECKING:
    from repserve_server.channel.control import ControlMessage
    from repserve_server.dataplane.metrics import FrontendMetrics


class ModelMessages:
    """Keeps a model table in step with the supervisor's messages."""

    def __init__(self, table: ModelTable, metrics: FrontendMetrics) -> None:
        self._table, self._metrics = table, metrics
        self._labels: dict[int, tuple[str, ...]] = {}
        self._infos: dict[str, list[ModelInfo]] = {}

    def take_labels(self, message: ControlMessage) -> None:
        """A part of a revision's labels; they come before it is ready."""
        revision = message.body["revision"]
        self._labels[revision] = (*self._labels.get(revision, ()), *message.body["labels"])

    def take_model(self, message: ControlMessage) -> None:
        """The newest description of every version of a model; an empty one when the model is no more."""
        bodies: list[dict[str, Any]] = message.body["versions"]
        infos = [ModelInfo.from_body(body, self._labels.get(body["revision"], ())) for body in bodies]
        self._infos[message.body["model"]] = infos
        if not infos:
            del self._infos[message.body["model"]]
        self._table.update([info for infos in self._infos.values() for info in infos])
        for info in infos:
            queue = self._table.queue(info.revision)
            if info.state == "failed" and queue is not None:
                queue.give_up(f"model {info.name!r} has failed: {info.reason}")

    def open_queue(self, message: ControlMessage) -> None:
        """A revision has its first worker: here is the memory of its slots."""
        body, memory = message.body, message.descriptors[0]
        area = SlotArea(SlotLayout.from_body(body["layout"]), memory)
        os.close(memory)
        model = (body["model"], body["version"])
        metrics = self._metrics.for_model(*model)
        queue = ModelQueue(model, area, body["output"], body["best_image_seconds"], metrics)
        self._table.open(body["revision"], queue)

    def attach_worker(self, message: ControlMessage) -> None:
        """A worker of a revision takes images over this link."""
        queue = self._table.queue(message.body["revision"])
        link = Link(socket.socket(fileno=message.descriptors[0]))
        if queue is None:
            link.close()
        else:
            queue.attach(message.body["worker"], link)

    def detach_worker(self, message: ControlMessage) -> None:
        """A worker has ended: no process writes to its images any more."""
        queue = self._table.queue(message.body["revision"])
        if queue is not None:
            queue.detach(message.body["worker"], crashed=message.body["crashed"])

    async def retire(self, revision: int) -> None:
        """Answer what a revision has taken, then forget it. It is not found by requests any more."""
        queue = self._table.queue(revision)
        if queue is not None:
            await queue.empty()
            self._table.close(revision)
            queue.close()
            if all(other.model != queue.model for other in self._table.queues):
                self._metrics.forget_model(*queue.model)
        self._labels.pop(revision, None)

    def close(self) -> None:
        """Forget every queue; requests that are still in flight fail."""
        for queue in self._table.queues:
            queue.close()
