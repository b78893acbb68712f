"""Random schedules over dataplane, queue and real worker loops: every answer is the request's, of one revision.

Requests of several images are split over batches, cancelled, and late; runs fail, workers crash and are killed, and
the model is loaded anew meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from repserve_server.channel.messages import Priority
from repserve_server.channel.model_info import ModelInfo
from repserve_server.channel.slots import SlotArea
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Dataplane, Scored
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.queue import ModelQueue
from repserve_server.errors import DeadlineError, InferenceError, QueueFullError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.worker.loop import WorkerLoop
from repserve_server.worker.metrics import WorkerMetrics
from repserve_server.worker.planner import BatchCosts
from support.examples import scaled
from support.fakes import FakeBackend, FakeClock, connected_links, map_area, scores_of, slot_layout
from support.queue_harness import run_async, settle

SLOTS = 12
SIZES = (1, 4)
COSTS = {1: 0.1, 4: 0.2}
PIXELS = Preprocessing(resize=2, crop=2)

operations = st.one_of(
    st.tuples(
        st.just("submit"),
        st.integers(1, 6),
        st.sampled_from("abc"),
        st.sampled_from(Priority),
        st.sampled_from([0.3, 2.0, math.inf]),
    ),
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("die"), st.integers(0, 9), st.booleans(), st.booleans()),
    st.tuples(st.just("start")),
    st.tuples(st.just("reload")),
    st.tuples(st.just("advance"), st.sampled_from([0.05, 0.5])),
)


class Backend(FakeBackend):
    """Its scores tell which revision gave them; one run fails on request."""

    def __init__(self, revision: int) -> None:
        super().__init__(SIZES)
        self.revision = revision
        self.fail = False

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        if self.fail:
            self.fail = False
            raise RuntimeError("the run failed")
        return super().run(batch) + np.float32(self.revision * 100_000)


class Worker:
    """A worker's loop, driven step by step."""

    def __init__(self, name: str, revision: int, area: SlotArea, queue: ModelQueue, clock: FakeClock) -> None:
        self.name, self.queue, self.area = name, queue, area
        self.backend = Backend(revision)
        ours, self.link = connected_links()
        self.loop = WorkerLoop(self.backend, BatchCosts(COSTS), WorkerMetrics("digits", "1", "cpu"), clock)
        self.loop.add_source("frontend", area, self.link)
        queue.attach(name, ours)

    def step(self) -> None:
        self.loop._drain_inbox(wait=False)
        self.loop._drop_expired()
        if self.loop._waiting:
            self.loop._run_batch(self.loop._choose())

    def mark_next_batch(self) -> None:
        """As in a run that never ends: its images are marked, and nothing is answered."""
        self.loop._drain_inbox(wait=False)
        if self.loop._waiting:
            for image in self.loop._waiting.take(self.loop._choose().take):
                self.area.running[image.slot] = image.generation

    def die(self, *, crashed: bool) -> None:
        self.link.close()
        self.queue.detach(self.name, crashed=crashed)


class System:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.metrics = FrontendMetrics()
        self.table = ModelTable()
        self.dataplane = Dataplane(self.table, DecodePool(1, 1_000, self.clock), self.clock)
        self.workers: list[Worker] = []
        self.areas: dict[int, SlotArea] = {}
        self.retiring: list[asyncio.Task[None]] = []
        self.requests: list[tuple[asyncio.Task[Scored], NDArray[np.uint8]]] = []
        self.revision = self.started = self.content = 0
        self.reload()

    async def perform(self, operation: tuple[Any, ...]) -> None:
        kind, *arguments = operation
        getattr(self, kind)(*arguments)
        await settle()

    def reload(self) -> None:
        """A new revision takes over; the old one answers what it has, and goes."""
        old, self.revision = self.revision, self.revision + 1
        ours, theirs = map_area(slot_layout(SLOTS), mappings=2)
        self.areas[self.revision] = theirs
        queue = ModelQueue(
            ("digits", "1"), ours, "logits", 0.05, self.metrics.for_model("digits", "1"), clock=self.clock
        )
        self.table.open(self.revision, queue)
        self.start()
        info = ModelInfo(
            "digits", "1", "ready", "", preprocessing=PIXELS, max_batch_size=4, classes=4, revision=self.revision
        )
        self.table.update([info])
        if old:
            self.retiring.append(asyncio.ensure_future(self._retire(old)))

    async def _retire(self, revision: int) -> None:
        queue = self.table.queue(revision)
        assert queue is not None
        await queue.empty()
        assert self.table.close(revision) is queue
        for worker in [worker for worker in self.workers if worker.queue is queue]:
            self.workers.remove(worker)
            worker.die(crashed=False)
        queue.close()

    def start(self, revision: int = 0) -> None:
        revision = revision or self.revision
        queue = self.table.queue(revision)
        assert queue is not None
        self.started += 1
        self.workers.append(Worker(f"worker {self.started}", revision, self.areas[revision], queue, self.clock))

    def submit(self, images: int, client: str, priority: Priority, seconds: float) -> None:
        pixels = np.zeros((images, 2, 2, 3), np.uint8)
        for image in pixels:
            self.content += 1
            image[0, 0] = (*divmod(self.content, 256), self.content % 7)
        call = Call(self.clock.now + seconds, client, priority)
        work = self.dataplane.classify_pixels(pixels.tobytes(), images, self.dataplane.models.find("digits", ""), call)
        self.requests.append((asyncio.ensure_future(work), pixels))

    def step(self, index: int) -> None:
        if self.workers:
            self.workers[index % len(self.workers)].step()

    def cancel(self, index: int) -> None:
        if self.requests:
            self.requests[index % len(self.requests)][0].cancel()

    def fail(self, index: int) -> None:
        if self.workers:
            self.workers[index % len(self.workers)].backend.fail = True

    def die(self, index: int, crashed: bool, in_a_run: bool) -> None:
        if self.workers:
            worker = self.workers.pop(index % len(self.workers))
            if in_a_run:
                worker.mark_next_batch()
            worker.die(crashed=crashed)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def finish(self) -> None:
        """Every revision that is left gets a worker, which works until all is answered."""
        for queue, revision in [(self.table.queue(number), number) for number in range(1, self.revision + 1)]:
            if queue is not None and not any(worker.queue is queue for worker in self.workers):
                self.start(revision)
        for _ in range(200):
            await settle()
            if all(task.done() for task, _ in self.requests) and all(task.done() for task in self.retiring):
                break
            for worker in list(self.workers):
                worker.step()
        for retired in self.retiring:
            assert retired.done(), "a revision that takes nothing more never became empty"
            retired.result()
        for task, pixels in self.requests:
            assert task.done(), "a request never ended"
            if not task.cancelled() and not isinstance(
                task.exception(), DeadlineError | InferenceError | QueueFullError
            ):
                self._check(task.result(), pixels)
        for worker in self.workers:
            worker.step()
        await settle()
        assert [queue.occupied for queue in self.table.queues] == [0], "a slot was lost"
        for worker in self.workers:
            worker.die(crashed=False)
        for queue in self.table.queues:
            queue.close()

    @staticmethod
    def _check(scored: Scored, pixels: NDArray[np.uint8]) -> None:
        got = [image.batch.scores[image.row].tolist() for image in scored.images]
        base = np.float32(scored.model.revision * 100_000)
        assert got == [(scores_of(image) + base).tolist() for image in pixels]


@settings(max_examples=scaled(200))
@given(st.lists(operations, max_size=40))
def test_every_answer_is_its_requests_and_of_one_revision(schedule: list[tuple[Any, ...]]) -> None:
    async def test() -> None:
        system = System()
        for operation in schedule:
            await system.perform(operation)
        await system.finish()

    run_async(test)
