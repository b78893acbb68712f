"""What a queue does when workers end: images move on, suspects run alone, and one that crashes twice is given up."""

from __future__ import annotations

import asyncio

import pytest

from repserve_server.channel.messages import Outcome
from repserve_server.dataplane.call import Call
from repserve_server.errors import InferenceError, ModelUnavailableError
from support.queue_harness import CALL, WAIT_SECONDS, QueueHarness, result, run_async, settle


def test_images_of_a_worker_that_ended_wait_for_the_next() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first = harness.start_worker("worker 1")
        task, expected = await harness.submit(3)
        sent = first.read()
        first.die()
        harness.queue.detach("worker 1", crashed=True)
        await settle()
        assert not task.done()
        assert harness.queue.occupied == 3
        second = harness.start_worker("worker 2")
        await settle()
        again = second.read()
        assert [(entry.slot, entry.generation) for entry in again] == [(e.slot, e.generation) for e in sent]
        assert not any(entry.alone for entry in again), "none of them was on the device"
        second.answer(again)
        assert await result(task) == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_images_move_to_another_worker_at_once_but_not_before_the_first_has_ended() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first = harness.start_worker("worker 1")
        task, expected = await harness.submit(2)
        second = harness.start_worker("worker 2")
        first.die()
        await settle()
        assert harness.queue.worker_count == 1
        assert second.read() == [], "the process may still write to the slots"
        other, other_expected = await harness.submit(1)
        (only,) = second.read()
        second.answer([only])
        assert await result(other) == other_expected
        harness.queue.detach("worker 1", crashed=True)
        await settle()
        second.answer(second.read())
        assert await result(task) == expected

    run_async(test)


def test_images_on_the_device_at_a_crash_are_tried_again_alone() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first = harness.start_worker("worker 1")
        task, expected = await harness.submit(4)
        held = first.read()
        first.mark_running(held[:2])
        first.die()
        harness.queue.detach("worker 1", crashed=True)
        assert not harness.area.running.any()
        second = harness.start_worker("worker 2")
        await settle()
        again = second.read()
        assert [entry.alone for entry in again] == [True, True, False, False]
        second.answer(again)
        assert await result(task) == expected
        assert harness.poison_count() == 0

    run_async(test)


def test_an_image_on_the_device_at_two_crashes_is_given_up_and_the_others_are_not() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first = harness.start_worker("worker 1")
        poison, _ = await harness.submit(1)
        innocent, expected = await harness.submit(1)
        first.mark_running(first.read())
        first.die()
        harness.queue.detach("worker 1", crashed=True)
        second = harness.start_worker("worker 2")
        await settle()
        again = second.read()
        second.mark_running(again[:1])
        second.die()
        harness.queue.detach("worker 2", crashed=True)
        with pytest.raises(InferenceError, match="at 2 crashes"):
            await asyncio.wait_for(poison, WAIT_SECONDS)
        assert harness.poison_count() == 1
        third = harness.start_worker("worker 3")
        await settle()
        (left,) = third.read()
        assert left.alone
        third.answer([left])
        assert await result(innocent) == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_images_of_a_worker_that_was_killed_are_not_suspected() -> None:
    async def test() -> None:
        harness = QueueHarness()
        task, expected = await harness.submit(2)
        for number in range(5):
            worker = harness.start_worker(f"worker {number}")
            await settle()
            held = worker.read()
            assert not any(entry.alone for entry in held)
            worker.mark_running(held)
            worker.die()
            harness.queue.detach(worker.name, crashed=False)
        last = harness.start_worker("last")
        await settle()
        last.answer(last.read())
        assert await result(task) == expected

    run_async(test)


def test_answers_that_a_worker_sent_before_it_ended_count() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker("worker 1")
        task, expected = await harness.submit(2)
        held = worker.read()
        worker.mark_running(held)
        worker.answer(held)
        worker.die()
        harness.queue.detach("worker 1", crashed=True)
        assert await result(task) == expected
        assert harness.queue.occupied == 0

    run_async(test)


def test_unread_submissions_of_a_worker_that_ended_move_on() -> None:
    async def test() -> None:
        harness = QueueHarness()
        first = harness.start_worker("worker 1")
        slots = harness.queue.admit(2, CALL)
        expected = harness.fill(slots)
        task = asyncio.ensure_future(harness.queue.run(slots, Call(2000.0)))
        first.die()
        await settle()
        harness.queue.detach("worker 1", crashed=True)
        second = harness.start_worker("worker 2")
        await settle()
        second.answer(second.read())
        assert await result(task) == expected

    run_async(test)


def test_cancelled_images_of_a_worker_that_ended_free_their_slots() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker("worker 1")
        task, _ = await harness.submit(3)
        worker.mark_running(worker.read())
        task.cancel()
        await settle()
        assert harness.queue.occupied == 3
        worker.die()
        harness.queue.detach("worker 1", crashed=True)
        assert harness.queue.occupied == 0
        second = harness.start_worker("worker 2")
        await settle()
        assert second.read() == []

    run_async(test)


def test_a_request_cancelled_while_no_worker_is_there_frees_its_slots() -> None:
    async def test() -> None:
        harness = QueueHarness()
        task, _ = await harness.submit(3)
        task.cancel()
        await settle()
        assert harness.queue.occupied == 0

    run_async(test)


def test_detaching_an_unknown_worker_changes_nothing() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker("worker 1")
        task, expected = await harness.submit(1)
        harness.queue.detach("worker 7", crashed=True)
        worker.answer(worker.read())
        assert await result(task) == expected

    run_async(test)


def test_a_failed_run_is_not_a_crash() -> None:
    async def test() -> None:
        harness = QueueHarness()
        worker = harness.start_worker("worker 1")
        task, _ = await harness.submit(1)
        worker.answer(worker.read(), Outcome.FAILED)
        with pytest.raises(InferenceError):
            await asyncio.wait_for(task, WAIT_SECONDS)
        assert harness.poison_count() == 0

    run_async(test)


def test_images_that_wait_for_a_worker_are_refused_when_none_is_expected() -> None:
    async def test() -> None:
        harness = QueueHarness()
        waiting, _ = await harness.submit(2)
        worker = harness.start_worker()
        await settle()
        with_a_worker, expected = await harness.submit(1)
        harness.queue.give_up("it has failed")
        assert not waiting.done(), "a worker has them"
        worker.die()
        harness.queue.detach(worker.name, crashed=False)
        harness.queue.give_up("it has failed")
        await settle()
        for task in (waiting, with_a_worker):
            with pytest.raises(ModelUnavailableError, match="it has failed"):
                await task
        assert harness.queue.occupied == 0
        assert len(expected) == 1

    run_async(test)
