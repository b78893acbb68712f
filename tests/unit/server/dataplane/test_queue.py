"""A model's queue: answers reach their requests, slots come back, and workers that end take no request with them."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from repserve_server.channel.messages import Cancellation, Outcome, SlotOutcome, unpack_for_worker
from repserve_server.dataplane.call import Call
from repserve_server.errors import DeadlineError, DrainingError, InferenceError, QueueFullError
from support.fakes import scores_of
from support.queue_harness import CALL, WAIT_SECONDS, QueueHarness, result, run_async, settle


def test_images_that_are_ready_together_travel_together() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        slots = harness.queue.admit(3, CALL)
        expected = harness.fill(slots)
        tasks = [asyncio.ensure_future(harness.queue.run([slot], Call(2000.0))) for slot in slots]
        await settle()
        (message,) = worker.link.receive_all()
        assert [entry.slot for entry in unpack_for_worker(message)] == slots
        for slot in slots:
            worker.area.scores[slot] = scores_of(worker.area.images[slot])
        worker.send_outcomes([SlotOutcome(slot, 1, Outcome.SCORED) for slot in reversed(slots)])
        assert [(await result(task))[0] for task in tasks] == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_request_of_several_images_gets_them_in_order_however_they_are_answered() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, expected = await harness.submit(4)
        held = worker.read()
        worker.answer([held[2]])
        worker.answer([held[3], held[0]])
        await settle()
        assert not task.done()
        worker.answer([held[1]])
        assert await result(task) == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_an_answer_tells_batch_size_and_times() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(2)
        worker.answer(worker.read(), started=harness.clock.now + 0.5)
        image, _ = await asyncio.wait_for(task, WAIT_SECONDS)
        assert (image.batch_size, image.queue_seconds, image.compute_seconds) == (2, 0.5, 0.25)

    run_async(test)


def test_a_full_queue_says_when_to_try_again() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=8)
        harness.start_worker("worker 1")
        harness.start_worker("worker 2")
        harness.queue.admit(6, CALL)
        with pytest.raises(QueueFullError, match="holds 6 of 8 images and has no room for 3 more") as caught:
            harness.queue.admit(3, CALL)
        assert caught.value.retry_after == pytest.approx(6 * 0.01 / 2)
        assert harness.queue.admit(2, CALL) == [6, 7]

    run_async(test)


def test_a_request_that_never_fits_is_not_told_to_try_again() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=8)
        with pytest.raises(Exception, match="9") as caught:
            harness.queue.admit(9, CALL)
        assert getattr(caught.value, "retry_after", None) is None

    run_async(test)


def test_an_answer_after_the_deadline_is_a_deadline_error() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(1, harness.clock.now + 1.0)
        held = worker.read()
        harness.clock.advance(1.5)
        worker.answer(held)
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(task, WAIT_SECONDS)
        assert harness.queue.occupied == 0

    run_async(test)


def test_slots_that_were_not_run_are_given_back() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=4)
        slots = harness.queue.admit(4, CALL)
        harness.queue.give_back(slots)
        assert harness.queue.occupied == 0
        assert sorted(harness.queue.admit(4, CALL)) == slots

    run_async(test)


def test_a_deadline_that_is_over_already_ends_the_request_at_once() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        slots = harness.queue.admit(2, CALL)
        with pytest.raises(DeadlineError):
            await harness.queue.run(slots, Call(harness.clock.now))
        await settle()
        assert worker.read() == []
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_request_ends_at_its_deadline_and_keeps_its_slot_until_the_worker_lets_go() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(1, harness.clock.now + 1.0)
        other, expected = await harness.submit(1, harness.clock.now + 60.0)
        late, kept = worker.read()
        harness.clock.advance(1.0)
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(task, WAIT_SECONDS)
        await settle()
        worker.read()
        assert worker.cancelled == [Cancellation(late.slot, late.generation)]
        assert harness.queue.occupied == 2, "the worker may still read and write the slot"
        worker.answer([late], Outcome.CANCELLED)
        worker.answer([kept])
        assert await result(other) == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_waiting_request_without_any_worker_ends_at_its_deadline() -> None:
    async def test() -> None:
        harness = QueueHarness()
        task, _ = await harness.submit(2, harness.clock.now + 1.0)
        harness.clock.advance(2.0)
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(task, WAIT_SECONDS)
        assert harness.queue.occupied == 0
        worker = harness.start_worker()
        await settle()
        assert worker.read() == []

    run_async(test)


def test_the_worker_expiring_an_image_is_a_deadline_error() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(1)
        worker.answer(worker.read(), Outcome.EXPIRED)
        with pytest.raises(DeadlineError, match="waited for the device"):
            await asyncio.wait_for(task, WAIT_SECONDS)
        assert harness.queue.occupied == 0

    run_async(test)


def test_one_failed_image_fails_its_request_and_calls_the_others_back() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(3)
        held = worker.read()
        worker.answer([held[1]], Outcome.FAILED)
        with pytest.raises(InferenceError, match="the device failed"):
            await asyncio.wait_for(task, WAIT_SECONDS)
        await settle()
        worker.read()
        unwanted = {(entry.slot, entry.generation) for entry in worker.cancelled}
        assert {(held[0].slot, 1), (held[2].slot, 1)} <= unwanted
        worker.answer([held[0]], Outcome.CANCELLED)
        worker.answer([held[2]])
        await settle()
        assert harness.queue.occupied == 0

    run_async(test)


def test_cancelling_a_request_takes_it_out_of_the_workers_queue() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker()
        task, _ = await harness.submit(1)
        task.cancel()
        await settle()
        (held,) = worker.read()
        assert worker.cancelled == [Cancellation(held.slot, held.generation)]
        assert harness.queue.occupied == 1
        worker.answer([held], Outcome.CANCELLED)
        await settle()
        assert harness.queue.occupied == 0

    run_async(test)


def test_answers_of_an_earlier_use_of_a_slot_are_ignored() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=1)
        worker = harness.start_worker()
        first, _ = await harness.submit(1)
        (old,) = worker.read()
        worker.answer([old])
        await result(first)
        second, expected = await harness.submit(1)
        (new,) = worker.read()
        assert (new.slot, new.generation) == (old.slot, old.generation + 1)
        worker.send_outcomes([SlotOutcome(old.slot, old.generation, Outcome.FAILED)])
        await settle()
        assert not second.done()
        assert harness.queue.occupied == 1
        worker.answer([new])
        assert await result(second) == expected
        worker.send_outcomes([SlotOutcome(new.slot, new.generation, Outcome.SCORED)])
        await settle()
        assert harness.queue.occupied == 0

    run_async(test)


def test_images_go_to_the_least_loaded_worker() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first, second = harness.start_worker("worker 1"), harness.start_worker("worker 2")
        await harness.submit(4)
        assert (len(first.read()), len(second.read())) == (2, 2)
        first.answer(first.held)
        await settle()
        await harness.submit(2)
        assert (len(first.read()), len(second.read())) == (2, 0)

    run_async(test)


def test_closing_ends_what_is_in_flight() -> None:
    async def test() -> None:
        harness = QueueHarness()
        harness.start_worker()
        task, _ = await harness.submit(1, harness.clock.now + 1.0)
        harness.queue.close()
        assert harness.queue.worker_count == 0
        with pytest.raises(DrainingError):
            await asyncio.wait_for(task, WAIT_SECONDS)

    run_async(test)


def test_what_a_busy_worker_does_not_read_is_sent_later() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=2)
        worker = harness.start_worker()
        sent = 0
        (connection,) = harness.queue._workers.values()
        while not connection.link.has_backlog:
            task, _ = await harness.submit(1)
            task.cancel()
            worker.send_outcomes([SlotOutcome(0, sent + 1, Outcome.CANCELLED)])
            await settle()
            sent += 1
        held = worker.read()
        await settle()
        held += worker.read()
        assert [entry.generation for entry in held] == list(range(1, sent + 1))
        assert not connection.link.has_backlog

    run_async(test)


def test_scores_are_kept_when_their_slot_is_used_again() -> None:
    async def test() -> None:
        harness = QueueHarness(slots=1)
        worker = harness.start_worker()
        task, expected = await harness.submit(1)
        worker.answer(worker.read())
        images = await asyncio.wait_for(task, WAIT_SECONDS)
        again, _ = await harness.submit(1)
        worker.answer(worker.read())
        await result(again)
        assert images[0].rank(1)[0] == [int(np.argmax([expected[0], -expected[0], 1.0, 0.0]))]
        assert images[0].batch.scores[0][0] == expected[0]

    run_async(test)


def test_a_given_up_image_is_logged_with_its_hash(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        harness = QueueHarness()
        task, _ = await harness.submit(1)
        for number in range(2):
            worker = harness.start_worker(f"worker {number}")
            await settle()
            worker.mark_running(worker.read())
            worker.die()
            harness.queue.detach(worker.name, crashed=True)
        with pytest.raises(InferenceError):
            await asyncio.wait_for(task, WAIT_SECONDS)

    with caplog.at_level(logging.ERROR):
        run_async(test)
    assert "given up: sha256 " in caplog.text
