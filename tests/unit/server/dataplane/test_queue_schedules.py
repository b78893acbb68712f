"""Random schedules: whatever workers and clients do, each request ends once and no slot is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repserve_server.channel.messages import Outcome, SlotOutcome
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.scores import ImageScores
from repserve_server.errors import DeadlineError, InferenceError, QueueFullError
from support.examples import scaled
from support.queue_harness import CALL, HandWorker, QueueHarness, first_score, run_async, settle

SLOTS = 6

operations = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 4), st.sampled_from([0.5, 3.0, 1e6])),
    st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(Outcome)),
    st.tuples(st.just("run"), st.integers(0, 9), st.integers(1, 4)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("advance"), st.sampled_from([0.25, 1.0, 5.0])),
    st.tuples(st.just("die"), st.integers(0, 9), st.booleans(), st.booleans()),
    st.tuples(st.just("start")),
    st.tuples(st.just("stale"), st.integers(0, 9)),
    st.tuples(st.just("settle")),
)


class Schedule:
    """Does operations to a queue and its workers, and checks what must always hold."""

    def __init__(self) -> None:
        self.harness = QueueHarness(SLOTS)
        self.workers: list[HandWorker] = []
        self.started = 0
        self.requests: list[tuple[asyncio.Task[list[ImageScores]], list[float]]] = []
        self.ends: dict[int, int] = {}

    async def perform(self, operation: tuple[Any, ...]) -> None:
        kind, *arguments = operation
        self._read_all()
        getattr(self, f"_{kind}")(*arguments)
        if kind in ("submit", "settle", "die"):
            await settle()
        self._read_all()
        self._check_slots()

    async def finish(self) -> None:
        """One last worker answers everything that is left; then all must be over."""
        for worker in list(self.workers):
            self._end(worker, crashed=False)
        self._start()
        last = self.workers[0]
        for _ in range(3):
            await settle()
            last.read()
            last.answer(last.held)
        await settle()
        for task, expected in self.requests:
            assert task.done(), "a request never ended"
            if task.cancelled() or isinstance(task.exception(), DeadlineError | InferenceError):
                continue
            assert [first_score(image) for image in task.result()] == expected
        assert self.harness.queue.occupied == 0
        assert sorted(self.harness.queue.admit(SLOTS, CALL)) == list(range(SLOTS))
        self.harness.queue.close()

    def _submit(self, images: int, seconds: float) -> None:
        queue = self.harness.queue
        free = queue.capacity - queue.occupied
        if images > free:
            with pytest.raises(QueueFullError):
                queue.admit(images, CALL)
            return
        slots = queue.admit(images, CALL)
        held = {entry.slot for worker in self.workers for entry in worker.held}
        assert not held & set(slots), "a slot that a worker holds was given away"
        expected = self.harness.fill(slots)
        self.requests.append(
            (asyncio.ensure_future(queue.run(slots, Call(self.harness.clock.now + seconds))), expected)
        )

    def _answer(self, index: int, outcome: Outcome) -> None:
        holders = [worker for worker in self.workers if worker.held]
        if holders:
            worker = holders[index % len(holders)]
            entry = worker.held[index % len(worker.held)]
            worker.area.running[entry.slot] = 0
            unwanted = any(tuple(cancelled) == entry[:2] for cancelled in worker.cancelled)
            if outcome is Outcome.CANCELLED and not unwanted:
                outcome = Outcome.SCORED
            worker.answer([entry], outcome)

    def _run(self, index: int, count: int) -> None:
        if self.workers:
            worker = self.workers[index % len(self.workers)]
            worker.mark_running(worker.held[:count])

    def _cancel(self, index: int) -> None:
        if self.requests:
            self.requests[index % len(self.requests)][0].cancel()

    def _advance(self, seconds: float) -> None:
        self.harness.clock.advance(seconds)
        self.harness.queue._end_overdue()

    def _die(self, index: int, crashed: bool, detached: bool) -> None:
        if self.workers:
            worker = self.workers[index % len(self.workers)]
            if detached:
                self._end(worker, crashed=crashed)
            else:
                worker.die()
                worker.held.clear()
                self.workers.remove(worker)
                asyncio.get_running_loop().call_soon(lambda: self.harness.queue.detach(worker.name, crashed=crashed))

    def _start(self) -> None:
        self.started += 1
        self.workers.append(self.harness.start_worker(f"worker {self.started}"))

    def _stale(self, index: int) -> None:
        holders = [worker for worker in self.workers if worker.held]
        if holders:
            entry = holders[index % len(holders)].held[0]
            holders[index % len(holders)].send_outcomes([SlotOutcome(entry.slot, entry.generation - 1, Outcome.SCORED)])

    def _settle(self) -> None:
        """The event loop turns in ``perform``."""

    def _end(self, worker: HandWorker, *, crashed: bool) -> None:
        worker.die()
        self.workers.remove(worker)
        self.harness.queue.detach(worker.name, crashed=crashed)

    def _read_all(self) -> None:
        for worker in self.workers:
            worker.read()

    def _check_slots(self) -> None:
        held = [entry.slot for worker in self.workers for entry in worker.held]
        assert len(held) == len(set(held)), "two workers, or two submissions, have one slot"
        assert self.harness.queue.occupied >= len(held)


@settings(max_examples=scaled(150))
@given(st.lists(operations, max_size=40))
def test_every_request_ends_once_with_its_own_scores_and_no_slot_is_lost(schedule: list[tuple[Any, ...]]) -> None:
    async def test() -> None:
        state = Schedule()
        for operation in schedule:
            await state.perform(operation)
        await state.finish()

    run_async(test)
