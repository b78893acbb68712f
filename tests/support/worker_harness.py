"""A worker loop that tests turn by hand, and frontends as it sees them: a link and the other mapping of their slots."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.channel.messages import (
    Answer,
    Cancellation,
    SlotOutcome,
    Submission,
    pack_cancellations,
    pack_submissions,
    unpack_answer,
)
from repserve_server.worker.loop import WorkerLoop
from repserve_server.worker.metrics import WorkerMetrics
from repserve_server.worker.planner import BatchCosts
from support.fakes import FakeBackend, FakeClock, connected_links, map_area, slot_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LoopHarness:
    """A loop with a fake backend and clock. ``turn`` lets it drain its inbox and run one batch at most."""

    def __init__(self, costs: dict[int, float] | None = None) -> None:
        self.backend = FakeBackend()
        self.clock = FakeClock()
        self.metrics = WorkerMetrics("digits", "1", "cpu")
        self.loop = WorkerLoop(self.backend, BatchCosts(costs or {1: 1.0, 16: 3.0}), self.metrics, self.clock)
        self._wake_read, self._wake_write = os.pipe()
        self.loop.watch(self._wake_read, self._take_wake)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop._stopping = False
            os.write(self._wake_write, b"x")
            self.loop.run()

    def counted(self, name: str, **labels: str) -> float:
        every = {"model": "digits", "version": "1", "device": "cpu", **labels}
        return self.metrics.registry.get_sample_value(name, every) or 0.0

    def close(self) -> None:
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _take_wake(self) -> None:
        os.read(self._wake_read, 1)
        self.loop.stop()


class LoopFrontend:
    """A frontend of a harness's loop, with its slots filled with different images."""

    def __init__(self, harness: LoopHarness, name: str = "frontend 0.1", slots: int = 40) -> None:
        layout = slot_layout(slots)
        self.area, self.worker_area = map_area(layout, mappings=2)
        seed = sum(name.encode())
        self.area.images[:] = np.random.default_rng(seed).integers(0, 256, self.area.images.shape, np.uint8)
        self.link, worker_end = connected_links()
        harness.loop.add_source(name, self.worker_area, worker_end)

    def submit(
        self, slots: Sequence[int], deadline: float = math.inf, *, generation: int = 1, alone: bool = False
    ) -> None:
        self.link.send(pack_submissions([Submission(slot, generation, deadline, alone) for slot in slots]))

    def cancel(self, slots: Sequence[int], generation: int = 1) -> None:
        self.link.send(pack_cancellations([Cancellation(slot, generation) for slot in slots]))

    def answers(self) -> list[Answer]:
        return [unpack_answer(message) for message in self.link.receive_all()]

    def outcomes(self) -> list[SlotOutcome]:
        return [entry for answer in self.answers() for entry in answer.slots]

    def scores(self, slot: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self.area.scores[slot]
        return row
