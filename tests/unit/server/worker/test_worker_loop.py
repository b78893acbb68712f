"""The worker's loop over real links: what is batched, how it is handed over, and who gets which answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repserve_server.backends.base import DeviceError
from repserve_server.channel.messages import CloseReason, Outcome, SlotOutcome
from support.examples import scaled
from support.fakes import scores_of
from support.worker_harness import LoopFrontend, LoopHarness

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture
def harness() -> Iterator[LoopHarness]:
    made = LoopHarness()
    yield made
    made.close()


def scored(*slots: int, generation: int = 1) -> list[SlotOutcome]:
    return [SlotOutcome(slot, generation, Outcome.SCORED) for slot in slots]


def test_a_partial_batch_is_padded_with_zeros_and_no_other_image(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    frontend.submit([4, 5, 6, 7, 8])
    harness.turn()
    (batch,) = harness.backend.batches
    assert len(batch) == 16
    assert not batch[5:].any()
    (answer,) = frontend.answers()
    assert (answer.size, answer.compiled, answer.reason) == (5, 16, CloseReason.CHEAPEST)
    assert list(answer.slots) == scored(4, 5, 6, 7, 8)
    for slot in range(4, 9):
        np.testing.assert_array_equal(frontend.scores(slot), scores_of(frontend.area.images[slot]))
    assert harness.counted("repserve_padding_images_total") == 11
    assert harness.counted("repserve_batches_total", reason="cheapest", batch_size="5") == 1


def test_slots_in_a_row_are_found_in_any_order_of_arrival(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    frontend.submit([*range(8, 20), 7, 4])
    frontend.submit([6, 5])
    harness.turn()
    (batch,) = harness.backend.batches
    assert np.shares_memory(batch, frontend.worker_area.images)
    assert frontend.outcomes() == scored(*range(4, 20))


def test_scattered_slots_are_copied_each_to_its_row(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    slots = [1, 3, 9, 10, 30]
    frontend.submit(slots)
    harness.turn()
    (batch,) = harness.backend.batches
    assert len(batch) == 16
    assert not np.shares_memory(batch, frontend.worker_area.images)
    for slot in slots:
        np.testing.assert_array_equal(frontend.scores(slot), scores_of(frontend.area.images[slot]))


def test_everything_that_waits_is_read_before_a_batch_is_chosen(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    for slot in range(16):
        frontend.submit([slot])
    harness.turn()
    (answer,) = frontend.answers()
    assert (answer.size, answer.reason) == (16, CloseReason.FULL)


def test_expired_images_are_answered_and_not_run(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    now = harness.clock.now
    frontend.submit([0], now)
    frontend.submit([1], now - 5.0)
    frontend.submit([2], now + 100.0)
    harness.turn()
    unrun, run = frontend.answers()
    assert list(unrun.slots) == [SlotOutcome(0, 1, Outcome.EXPIRED), SlotOutcome(1, 1, Outcome.EXPIRED)]
    assert (unrun.size, unrun.reason) == (0, CloseReason.NONE)
    assert list(run.slots) == scored(2)
    assert harness.counted("repserve_dropped_images_total", reason="expired") == 2


def test_cancelled_images_are_answered_and_not_run(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    frontend.submit([0, 1, 2])
    frontend.cancel([1])
    harness.turn(2)
    outcomes = frontend.outcomes()
    assert outcomes[0] == SlotOutcome(1, 1, Outcome.CANCELLED)
    assert sorted(outcomes[1:]) == scored(0, 2)
    assert harness.counted("repserve_dropped_images_total", reason="cancelled") == 1


def test_cancelling_another_generation_or_a_finished_image_does_nothing(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    frontend.submit([0], generation=2)
    frontend.cancel([0], generation=1)
    frontend.cancel([5], generation=1)
    harness.turn()
    assert frontend.outcomes() == scored(0, generation=2)
    frontend.cancel([0], generation=2)
    harness.turn()
    assert frontend.outcomes() == []


def test_one_frontend_cannot_cancel_anothers_image(harness: LoopHarness) -> None:
    first, second = LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")
    first.submit([3])
    second.cancel([3])
    harness.turn()
    assert first.outcomes() == scored(3)
    assert second.outcomes() == []


def test_an_image_to_be_run_alone_is(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    frontend.submit([0, 1, 2])
    frontend.submit([8, 9], alone=True)
    frontend.submit([3, 4])
    harness.turn(3)
    first, second, third = frontend.answers()
    assert list(first.slots) == scored(8)
    assert list(second.slots) == scored(9)
    assert (first.size, first.compiled, first.reason) == (1, 1, CloseReason.ALONE)
    assert list(third.slots) == scored(0, 1, 2, 3, 4)


def test_a_failed_batch_is_run_again_image_by_image_and_only_the_one_to_blame_fails(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    blamed = frontend.area.images[2].copy()

    def fail(batch: NDArray[np.generic]) -> None:
        if any(np.array_equal(image, blamed) for image in batch):
            raise RuntimeError("device error 507011")

    harness.backend.on_run = fail
    frontend.submit([0, 1, 2, 3])
    harness.turn()
    assert frontend.outcomes() == []
    assert not frontend.area.running.any()
    harness.turn(4)
    assert sorted(frontend.outcomes()) == [
        *scored(0, 1),
        SlotOutcome(2, 1, Outcome.FAILED),
        *scored(3),
    ]
    assert [len(batch) for batch in harness.backend.batches] == [16, 1, 1, 1, 1]
    assert harness.counted("repserve_failed_runs_total") == 2
    frontend.submit([0, 1, 3], generation=2)
    harness.turn()
    assert sorted(frontend.outcomes()) == scored(0, 1, 3, generation=2)


def test_images_of_a_failed_batch_can_still_be_cancelled_and_expire(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)

    def fail(_: object) -> None:
        raise RuntimeError("device error 507011")

    harness.backend.on_run = fail
    frontend.submit([0], harness.clock.now + 5.0)
    frontend.submit([1, 2])
    frontend.submit([3], harness.clock.now + 50.0)
    harness.turn()
    harness.backend.on_run = lambda _: None
    harness.clock.advance(10.0)
    frontend.cancel([1])
    harness.turn(3)
    assert sorted(frontend.outcomes()) == [
        SlotOutcome(0, 1, Outcome.EXPIRED),
        SlotOutcome(1, 1, Outcome.CANCELLED),
        *scored(2, 3),
    ]


def test_a_device_that_is_lost_ends_the_loop_with_its_images_marked(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)

    def fail(_: object) -> None:
        raise DeviceError("failed twice in a row")

    harness.backend.on_run = fail
    frontend.submit([4, 5, 6, 7], generation=3)
    with pytest.raises(DeviceError):
        harness.turn()
    assert frontend.outcomes() == []
    assert {slot: int(mark) for slot, mark in enumerate(frontend.area.running) if mark} == dict.fromkeys(range(4, 8), 3)
    assert harness.counted("repserve_failed_runs_total") == 1


def test_two_frontends_share_a_batch_and_get_their_own_answers(harness: LoopHarness) -> None:
    first, second = LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")
    first.submit([0, 1])
    second.submit([1, 7], generation=9)
    harness.turn()
    assert len(harness.backend.batches) == 1
    (from_first,), (from_second,) = first.answers(), second.answers()
    assert from_first.size == from_second.size == 4
    assert list(from_first.slots) == scored(0, 1)
    assert list(from_second.slots) == scored(1, 7, generation=9)
    for frontend, slots in ((first, (0, 1)), (second, (1, 7))):
        for slot in slots:
            np.testing.assert_array_equal(frontend.scores(slot), scores_of(frontend.area.images[slot]))
    assert not second.scores(0).any(), "a slot that was not submitted has no scores"


def test_images_of_a_frontend_that_is_gone_are_dropped(harness: LoopHarness) -> None:
    gone, left = LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")
    gone.submit([0, 1, 2])
    gone.submit(range(20, 40))
    left.submit([0])
    harness.turn()
    gone.link.close()
    harness.turn(3)
    assert sum(len(answer.slots) for answer in left.answers()) == 1
    left.submit([5], generation=3)
    harness.turn()
    assert left.outcomes() == scored(5, generation=3)


def test_a_frontend_that_goes_while_its_image_runs_stops_nothing(harness: LoopHarness) -> None:
    gone, left = LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")
    harness.backend.on_run = lambda _: gone.link.close()
    gone.submit([0, 1])
    left.submit([3, 4])
    harness.turn(2)
    assert left.outcomes() == scored(3, 4)
    left.submit([3], generation=2)
    harness.turn()
    assert left.outcomes() == scored(3, generation=2)


def test_running_images_are_marked_during_the_run_only(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    seen = []
    harness.backend.on_run = lambda _: seen.append(frontend.area.running.copy())
    frontend.submit([2, 3], generation=7)
    frontend.submit([5, 6], generation=8)
    harness.turn()
    (marks,) = seen
    assert {slot: int(mark) for slot, mark in enumerate(marks) if mark} == {2: 7, 3: 7, 5: 8, 6: 8}
    assert not frontend.area.running.any()


def test_answers_that_a_slow_frontend_does_not_read_are_kept_for_it(harness: LoopHarness) -> None:
    slow, other = LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")
    (source,) = (
        key.data
        for key in harness.loop._selector.get_map().values()
        if getattr(key.data, "frontend", "") == "frontend 0.1"
    )
    generation = 0
    while not source.link.has_backlog:
        generation += 1
        slow.submit([0], generation=generation)
        harness.turn()
    slow.submit([0], generation=generation + 1)
    other.submit([1])
    harness.turn(2)
    assert other.outcomes() == scored(1)
    outcomes = slow.outcomes()
    harness.turn()
    outcomes += slow.outcomes()
    assert [entry.generation for entry in outcomes] == list(range(1, generation + 2))
    assert not source.link.has_backlog


@pytest.mark.parametrize("count", [8_000, 30_000])
def test_any_number_of_images_can_expire_at_once(harness: LoopHarness, count: int) -> None:
    """A queue may hold 65,536; when a worker comes back, all of them may be late."""
    frontend = LoopFrontend(harness, slots=count)
    for first in range(0, count, 2000):
        frontend.submit(range(first, first + 2000), harness.clock.now + 10.0)
        harness.turn()
    harness.clock.advance(20.0)
    ended: list[SlotOutcome] = []
    for _ in range(100):
        harness.turn()
        ended += frontend.outcomes()
    assert sorted(entry.slot for entry in ended) == list(range(count))
    assert sum(entry.outcome is Outcome.EXPIRED for entry in ended) >= count - 16 * 100


@settings(max_examples=scaled(40))
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.lists(st.integers(0, 39), min_size=1, max_size=20, unique=True),
            st.sampled_from(["submit", "late", "alone", "cancel"]),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_every_submission_is_answered_exactly_once(steps: list[tuple[int, list[int], str]]) -> None:
    harness = LoopHarness()
    frontends = [LoopFrontend(harness, "frontend 0.1"), LoopFrontend(harness, "frontend 1.1")]
    generations = [0, 0]
    submitted: list[set[tuple[int, int]]] = [set(), set()]
    answered: list[list[SlotOutcome]] = [[], []]
    for index, slots, kind in steps:
        frontend = frontends[index]
        if kind == "cancel":
            frontend.cancel(slots, generation=generations[index])
        else:
            generations[index] += 1
            deadline = harness.clock.now + (-1.0 if kind == "late" else 1000.0)
            frontend.submit(slots, deadline, generation=generations[index], alone=kind == "alone")
            submitted[index] |= {(slot, generations[index]) for slot in slots}
        harness.turn()
        harness.clock.advance(0.5)
    while len(harness.loop._waiting):
        harness.turn()
    for index, frontend in enumerate(frontends):
        answered[index] += frontend.outcomes()
        ends = [(entry.slot, entry.generation) for entry in answered[index]]
        assert len(ends) == len(set(ends))
        assert set(ends) == submitted[index]
        for entry in answered[index]:
            if entry.outcome is Outcome.SCORED:
                np.testing.assert_array_equal(frontend.scores(entry.slot), scores_of(frontend.area.images[entry.slot]))
    harness.close()


def test_stopping_ends_the_loop_after_the_present_batch(harness: LoopHarness) -> None:
    frontend = LoopFrontend(harness)
    harness.backend.on_run = lambda _: harness.loop.stop()
    frontend.submit(range(40))
    harness.loop.run()
    assert len(harness.backend.batches) == 1
    assert frontend.outcomes() == scored(*range(16))
