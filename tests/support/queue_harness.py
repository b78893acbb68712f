"""A model's queue with workers that tests play by hand: what they were sent, and answers that they give."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from repserve_server.channel.messages import (
    Answer,
    Cancellation,
    CloseReason,
    Outcome,
    SlotOutcome,
    Submission,
    pack_answer,
    unpack_for_worker,
)
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.queue import ModelQueue
from repserve_server.dataplane.scores import ImageScores
from support.fakes import FakeClock, connected_links, map_area, scores_of, slot_layout

if TYPE_CHECKING:
    from repserve_server.channel.slots import SlotArea

Result = TypeVar("Result")
WAIT_SECONDS = 10.0
CALL = Call(math.inf)


def run_async(test: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run an async test, for a limited time."""

    async def limited() -> Result:
        return await asyncio.wait_for(test(), 60)

    return asyncio.run(limited())


async def settle(turns: int = 4) -> None:
    """Let the event loop do all that is ready, sockets included."""
    loop = asyncio.get_running_loop()
    for _ in range(turns):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


class HandWorker:
    """A worker's end of a link and its mapping of the slots."""

    def __init__(self, queue: ModelQueue, area: SlotArea, name: str) -> None:
        self.name = name
        self.area = area
        ours, self.link = connected_links()
        self.held: list[Submission] = []
        self.cancelled: list[Cancellation] = []
        queue.attach(name, ours)

    def read(self) -> list[Submission]:
        """The submissions that are new; they stay in ``held`` until they are answered."""
        new: list[Submission] = []
        for message in self.link.receive_all():
            for entry in unpack_for_worker(message):
                if isinstance(entry, Submission):
                    new.append(entry)
                else:
                    self.cancelled.append(entry)
        self.held += new
        return new

    def mark_running(self, entries: Sequence[Submission]) -> None:
        for entry in entries:
            self.area.running[entry.slot] = entry.generation

    def answer(self, entries: Sequence[Submission], outcome: Outcome = Outcome.SCORED, *, started: float = 0.0) -> None:
        if outcome is Outcome.SCORED:
            for entry in entries:
                self.area.scores[entry.slot] = scores_of(self.area.images[entry.slot])
        self.held = [entry for entry in self.held if entry not in entries]
        self.send_outcomes([SlotOutcome(entry.slot, entry.generation, outcome) for entry in entries], started)

    def send_outcomes(self, outcomes: Sequence[SlotOutcome], started: float = 0.0) -> None:
        size = len(outcomes)
        self.link.send(pack_answer(Answer(size, size, CloseReason.FULL, started, started + 0.25, list(outcomes))))

    def die(self) -> None:
        """The process ends; the kernel closes its end of the link."""
        self.link.close()


class QueueHarness:
    """A queue of ``slots`` slots with a clock moved by hand."""

    def __init__(self, slots: int = 8, dtype: str = "uint8") -> None:
        self.area, self._worker_area = map_area(slot_layout(slots, dtype), mappings=2)
        self.clock = FakeClock()
        self.metrics = FrontendMetrics()
        self.queue = ModelQueue(
            ("digits", "1"), self.area, "logits", 0.01, self.metrics.for_model("digits", "1"), clock=self.clock
        )
        self._contents = 0

    def start_worker(self, name: str = "worker 1") -> HandWorker:
        return HandWorker(self.queue, self._worker_area, name)

    def fill(self, slots: Sequence[int]) -> list[float]:
        """Put images of different content into admitted slots; returns the first score of each."""
        sums = []
        for slot in slots:
            self._contents += 1
            image = np.zeros(12, np.uint8)
            image[0], image[1] = divmod(self._contents, 256)
            image[2:] = self._contents % 7
            self.area.images[slot] = image.reshape(2, 2, 3)
            sums.append(float(scores_of(self.area.images[slot])[0]))
        return sums

    async def submit(
        self, images: int = 1, deadline: float = math.inf
    ) -> tuple[asyncio.Task[list[ImageScores]], list[float]]:
        """Admit, fill and run a request as a task that has reached the workers when this returns."""
        slots = self.queue.admit(images, CALL)
        expected = self.fill(slots)
        task = asyncio.ensure_future(self.queue.run(slots, Call(deadline)))
        await settle()
        return task, expected

    def poison_count(self) -> float:
        labels = {"model": "digits", "version": "1"}
        return self.metrics.registry.get_sample_value("repserve_poison_images_total", labels) or 0.0


async def result(task: asyncio.Task[list[ImageScores]]) -> list[float]:
    """The first score of each image of an answered request."""
    return [first_score(image) for image in await asyncio.wait_for(task, WAIT_SECONDS)]


def first_score(image: ImageScores) -> float:
    return float(image.batch.scores[image.row][0])
