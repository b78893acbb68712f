"""A recorder of requests beside a dataplane with one model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from repserve_server.dataplane.recorder import Recorder
from repserve_server.dataplane.scores import BatchScores, ImageScores
from support.dataplane_harness import DataplaneHarness
from support.queue_harness import run_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BATCH = BatchScores(np.zeros((4, 2), np.float32), "logits")
DIGITS = {"model": "digits", "version": "1"}
UNKNOWN = {"model": "", "version": ""}
METHOD = {"protocol": "grpc", "method": "Classify"}


class Harness(DataplaneHarness):
    """A recorder beside a dataplane with the model digits, version 1."""

    def __init__(self) -> None:
        super().__init__()
        self.models = self.dataplane.models
        self.recorder = Recorder(self.metrics, clock=self.clock)

    def record(self, remaining: float | None = None) -> Any:  # noqa: ANN401 - a RequestRecord
        return self.recorder.request("grpc", "Classify", dict, remaining)

    def value(self, name: str, *labels: dict[str, str], **more: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {k: v for part in labels for k, v in part.items()} | more)

    def requests(self, code: str, model: dict[str, str] = DIGITS) -> float | None:
        return self.value("repserve_requests_total", model, METHOD, code=code)


def in_loop(test: Callable[[Harness], Awaitable[None]]) -> None:
    async def run() -> None:
        await test(Harness())

    run_async(run)


def scores(queue: float, compute: float, finished: float) -> ImageScores:
    return ImageScores(BATCH, 0, 1, queue, compute, finished)
