"""The supervisor's messages about models: descriptions, queues, and workers that come and go."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from repserve_server.channel.link import Link
from repserve_server.channel.slots import SlotArea
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.queue import ModelQueue

if TYPE_CHECKING:
    from repserve_server.channel.frontend_messages import AttachWorker, DetachWorker, OpenQueue, UpdateModel
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.dataplane.metrics import FrontendMetrics


class ModelMessages:
    """Keeps a model table in step with the supervisor's messages."""

    def __init__(self, table: ModelTable, metrics: FrontendMetrics) -> None:
        self._table, self._metrics = table, metrics
        self._labels: dict[int, tuple[str, ...]] = {}
        self._infos: dict[str, list[ModelInfo]] = {}

    def update(self, message: UpdateModel) -> None:
        """Take the newest description of a model; a revision's labels came before it is ready."""
        infos = [replace(info, labels=self._labels.get(info.revision, ())) for info in message.versions]
        self._infos[message.model] = infos
        if not infos:
            del self._infos[message.model]
        self._table.update([info for infos in self._infos.values() for info in infos])
        for info in infos:
            queue = self._table.queue(info.revision)
            if info.state == "failed" and queue is not None:
                queue.give_up(f"model {info.name!r} has failed: {info.reason}")

    def open_queue(self, message: OpenQueue, memory: int) -> None:
        """Open the queue of a revision that has its first worker."""
        area = SlotArea(message.layout, memory)
        os.close(memory)
        model = (message.model, message.version)
        metrics = self._metrics.for_model(*model)
        self._labels[message.revision] = message.labels
        queue = ModelQueue(model, area, message.output, message.best_image_seconds, metrics)
        self._table.open(message.revision, queue)

    def attach_worker(self, message: AttachWorker, end: int) -> None:
        """Give a revision's queue another worker."""
        queue = self._table.queue(message.revision)
        link = Link(socket.socket(fileno=end))
        if queue is None:
            link.close()
        else:
            queue.attach(message.worker, link)

    def detach_worker(self, message: DetachWorker) -> None:
        """Give the images of a worker that has ended to others."""
        queue = self._table.queue(message.revision)
        if queue is not None:
            queue.detach(message.worker, crashed=message.crashed)

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
