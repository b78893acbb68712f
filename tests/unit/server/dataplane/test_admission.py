"""Admission: room for the next client, and no promise that cannot be kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from repserve_server.channel.messages import Priority
from repserve_server.dataplane.admission import Admission
from repserve_server.dataplane.call import Call
from repserve_server.errors import InvalidRequestError, QueueFullError, UnmeetableDeadlineError


def call(client: str = "a", priority: Priority = Priority.NORMAL, deadline: float = math.inf) -> Call:
    return Call(deadline, client, priority)


def fill(admission: Admission, client: str, priority: Priority = Priority.NORMAL) -> int:
    """Take single slots until one is refused; returns how many were had."""
    taken = 0
    while True:
        try:
            admission.take(1, call(client, priority), 1)
        except QueueFullError:
            return taken
        taken += 1


def test_a_greedy_client_leaves_room_for_the_next() -> None:
    admission = Admission(512, 0.001)
    assert fill(admission, "greedy") == 512 - 64
    assert fill(admission, "modest") == 32
    assert fill(admission, "the next") == 16


def test_several_greedy_clients_leave_room_for_the_next() -> None:
    admission = Admission(512, 0.001)
    for client in ("a", "b", "c", "d"):
        fill(admission, client)
    for turn in range(4):
        fill(admission, "abcd"[turn])
    assert fill(admission, "modest") > 0


def test_the_refusal_says_which_limit_it_was_and_when_to_try_again() -> None:
    admission = Admission(512, 0.001)
    fill(admission, "greedy")
    with pytest.raises(QueueFullError, match="holds 448 of 512 images, 448 of them this") as caught:
        admission.take(1, call("greedy"), workers=2)
    assert caught.value.retry_after == pytest.approx(448 * 0.001 / 2)
    fill(admission, "urgent", Priority.HIGH)
    with pytest.raises(QueueFullError, match="holds 512 of 512 images and has no room for 1 more"):
        admission.take(1, call("other"), workers=1)


def test_an_urgent_request_of_the_greedy_client_still_finds_room() -> None:
    admission = Admission(512, 0.001)
    fill(admission, "greedy")
    assert fill(admission, "greedy", Priority.HIGH) == 64


def test_a_request_for_every_slot_is_possible_when_none_is_held() -> None:
    admission = Admission(32, 0.001)
    slots = admission.take(32, call(), 1)
    assert sorted(slots) == list(range(32))
    for slot in slots:
        admission.give_back(slot)
    assert admission.occupied == 0
    with pytest.raises(InvalidRequestError, match="33 images and the queue holds 32"):
        admission.take(33, call(), 1)


def test_a_small_queue_keeps_nothing_back() -> None:
    assert fill(Admission(8, 0.001), "a") == 8


def test_what_waits_is_held_against_the_deadline() -> None:
    admission = Admission(512, 0.010)
    admission.take(20, call("other"), 1)
    admission.check_deadline(call("a", deadline=0.5), now=0.0, backlog=20, workers=1)
    admission.take(100, call("a"), 1)
    with pytest.raises(UnmeetableDeadlineError, match="expected in 1200 ms, 700 ms after the deadline") as caught:
        admission.check_deadline(call("a", deadline=0.5), now=0.0, backlog=120, workers=1)
    assert caught.value.retry_after == pytest.approx(0.7)
    admission.check_deadline(call("a", deadline=0.7), now=0.0, backlog=120, workers=2)


def test_an_urgent_request_counts_what_is_urgent_only() -> None:
    admission = Admission(512, 0.010)
    admission.take(400, call("a"), 1)
    admission.take(3, call("b", Priority.HIGH), 1)
    admission.check_deadline(call("b", Priority.HIGH, deadline=0.04), now=0.0, backlog=403, workers=1)


def test_a_client_in_turns_is_not_told_to_wait_for_all_that_another_has() -> None:
    admission = Admission(512, 0.010)
    admission.take(400, call("greedy"), 1)
    admission.check_deadline(call("modest", deadline=0.03), now=0.0, backlog=400, workers=1)


def test_images_that_wait_to_be_decoded_count() -> None:
    admission = Admission(512, 0.001)
    with pytest.raises(UnmeetableDeadlineError):
        admission.check_deadline(call(deadline=0.1), now=0.0, backlog=0, workers=1, decode_seconds=0.2)


def test_a_device_that_became_slower_is_noticed() -> None:
    admission = Admission(512, 0.001)
    for _ in range(100):
        admission.measure(16, 0.32, full=True)
    assert admission.image_seconds == pytest.approx(0.02, rel=0.01)
    for _ in range(100):
        admission.measure(1, 0.5, full=False)
    assert admission.image_seconds == pytest.approx(0.02, rel=0.01), "a small batch says nothing about full ones"


@given(st.floats(0.001, 10), st.floats(0, 5), st.sampled_from(Priority))
def test_an_idle_queue_refuses_no_deadline(image_seconds: float, deadline: float, priority: Priority) -> None:
    admission = Admission(64, image_seconds)
    admission.measure(16, image_seconds * 16, full=True)
    admission.check_deadline(call("a", priority, deadline), now=0.0, backlog=0, workers=1)


steps = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.sampled_from(Priority), st.booleans()), max_size=60
)


@given(steps, st.integers(1, 64))
def test_slots_are_held_once_and_come_back(requests: list[tuple[str, int, Priority, bool]], capacity: int) -> None:
    admission = Admission(capacity, 0.001)
    held: list[list[int]] = []
    for client, images, priority, give_back in requests:
        assume(images <= capacity)
        try:
            held.append(admission.take(images, call(client, priority), 1))
        except QueueFullError:
            assert held, "an empty queue refuses nothing"
        flat = [slot for slots in held for slot in slots]
        assert len(flat) == len(set(flat)) == admission.occupied
        if give_back and held:
            for slot in held.pop(0):
                admission.give_back(slot)
    for slot in [slot for slots in held for slot in slots]:
        admission.give_back(slot)
    assert admission.occupied == 0
