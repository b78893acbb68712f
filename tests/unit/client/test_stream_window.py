from __future__ import annotations

import random

import grpc
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from repserve_client.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from repserve_client.results import Classification
from repserve_client.retry import RetryPolicy
from repserve_client.window import StreamWindow
from repserve_protos.v1.classification_pb2 import ClassifyRequest, ClassifyResponse, ClassifyStreamResponse
from support.examples import scaled

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def window(size: int = 4, timeout: float = 10.0, **policy: float) -> StreamWindow:
    return StreamWindow(size, RetryPolicy(rng=random.Random(1), **policy), timeout)  # type: ignore[arg-type]


def request(number: int) -> ClassifyRequest:
    return ClassifyRequest(model=str(number), encoded_image=b"x")


def answer(number: int, model: str = "") -> ClassifyStreamResponse:
    return ClassifyStreamResponse(id=number, response=ClassifyResponse(model=model or str(number)))


def refusal(number: int, code: grpc.StatusCode) -> ClassifyStreamResponse:
    return ClassifyStreamResponse(id=number, status=Status(code=code.value[0], message="no"))


def model_of(outcome: object) -> str:
    assert isinstance(outcome, Classification)
    return outcome.model


def test_answers_in_any_order_are_taken_in_the_order_of_the_input() -> None:
    state = window()
    for number in range(3):
        state.add(request(number), now=0.0)
    assert [message.id for message in state.due(0.0)] == [0, 1, 2]
    state.answered(answer(2), 0.1)
    state.answered(answer(1), 0.1)
    assert not state.ready(0.1)
    assert state.take(0.1) is None
    state.answered(answer(0), 0.1)
    assert [model_of(state.take(0.1)) for _ in range(3)] == ["0", "1", "2"]
    assert len(state) == 0
    assert state.next_wake() is None
    assert not state.abandoned


def test_room_counts_what_is_not_yet_taken() -> None:
    state = window(size=2)
    state.add(request(0), 0.0)
    state.add_failed(InvalidArgumentError("bad"))
    state.due(0.0)
    state.answered(answer(0), 0.0)
    assert not state.room
    state.take(0.0)
    assert state.room


def test_each_message_carries_what_is_left_of_its_time() -> None:
    state = window(timeout=10.0)
    state.add(request(0), now=100.0)
    (message,) = state.due(104.0)
    assert message.timeout_milliseconds == 6000
    assert state.due(104.0) == []


def test_an_unavailable_item_is_sent_again_after_its_delay() -> None:
    state = window(initial_delay=1.0)
    state.add(request(0), 0.0)
    state.due(0.0)
    state.answered(refusal(0, UNAVAILABLE), 1.0)
    wake = state.next_wake()
    assert wake is not None
    assert 1.0 <= wake <= 2.0
    assert state.take(1.0) is None
    (message,) = state.due(wake)
    assert message.id == 0
    assert message.request.model == "0"
    state.answered(answer(0), wake)
    assert model_of(state.take(wake)) == "0"


def test_a_rejected_item_is_not_sent_again() -> None:
    state = window()
    state.add(request(0), 0.0)
    state.due(0.0)
    state.answered(refusal(0, INVALID_ARGUMENT), 0.0)
    assert isinstance(state.take(0.0), InvalidArgumentError)
    assert state.due(100.0) == []


def test_a_broken_stream_sends_again_only_what_was_in_flight() -> None:
    state = window(initial_delay=1.0)
    for number in range(3):
        state.add(request(number), 0.0)
    state.due(0.0)
    state.answered(answer(1), 0.0)
    state.broken(UnavailableError("gone"), 0.0)
    assert sorted(message.id for message in state.due(1.0)) == [0, 2]


def test_a_stream_broken_for_good_fails_what_was_in_flight() -> None:
    state = window()
    state.add(request(0), 0.0)
    state.due(0.0)
    state.add(request(1), 0.0)
    state.broken(InternalError("broken"), 0.0)
    assert isinstance(state.take(0.0), InternalError)
    assert not state.ready(0.0)
    assert [message.id for message in state.due(0.0)] == [1]


def test_an_item_without_an_answer_ends_at_its_deadline_and_a_late_answer_is_ignored() -> None:
    state = window(timeout=5.0)
    state.add(request(0), 0.0)
    state.due(0.0)
    assert state.next_wake() == 5.0
    assert state.take(4.9) is None
    assert isinstance(state.take(5.0), DeadlineExceededError)
    assert state.abandoned
    state.answered(answer(0), 5.1)
    assert len(state) == 0


def test_an_item_that_waits_for_another_attempt_at_its_deadline_ends_with_the_last_reason() -> None:
    state = window(timeout=5.0)
    state.add(request(0), 0.0)
    state.due(0.0)
    state.answered(refusal(0, UNAVAILABLE), 4.9)
    assert state.due(6.0) == []
    assert isinstance(state.take(6.0), UnavailableError)


def test_an_unexpected_answer_changes_nothing() -> None:
    state = window()
    state.add(request(0), 0.0)
    state.answered(answer(0, "early"), 0.0)
    state.answered(answer(7), 0.0)
    assert state.take(0.0) is None
    state.due(0.0)
    state.answered(answer(0, "first"), 0.0)
    state.answered(answer(0, "second"), 0.0)
    assert model_of(state.take(0.0)) == "first"


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        window(size=0)


class WindowUnderStress(RuleBasedStateMachine):
    """Whatever happens, each image ends once, in order, with an outcome that is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.size = 4
        self.state = window(self.size, timeout=20.0)
        self.added = 0
        self.taken = 0
        self.in_flight: set[int] = set()
        self.settled: dict[int, type[object]] = {}

    @precondition(lambda self: self.state.room)
    @rule(sendable=st.booleans())
    def read(self, sendable: bool) -> None:
        if sendable:
            self.state.add(request(self.added), self.now)
        else:
            self.state.add_failed(InvalidArgumentError("unreadable"))
            self.settled[self.added] = InvalidArgumentError
        self.added += 1

    @rule()
    def send(self) -> None:
        for message in self.state.due(self.now):
            assert message.id not in self.in_flight
            assert message.request.model == str(message.id)
            assert 1 <= message.timeout_milliseconds <= 20_000
            self.in_flight.add(message.id)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), kind=st.sampled_from([None, INVALID_ARGUMENT, UNAVAILABLE]))
    def answer(self, data: st.DataObject, kind: grpc.StatusCode | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.in_flight)))
        self.in_flight.remove(number)
        self.state.answered(answer(number) if kind is None else refusal(number, kind), self.now)
        if kind is not UNAVAILABLE and number >= self.taken:
            self.settled[number] = Classification if kind is None else InvalidArgumentError

    @rule(number=st.integers(0, 40))
    def answer_what_nobody_waits_for(self, number: int) -> None:
        if number not in self.in_flight:
            self.state.answered(answer(number, "stray"), self.now)

    @rule()
    def break_off(self) -> None:
        self.state.broken(UnavailableError("gone"), self.now)
        self.in_flight.clear()

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        ready = self.state.ready(self.now)
        outcome = self.state.take(self.now)
        assert ready == (outcome is not None)
        if outcome is None:
            return
        own = self.settled.pop(self.taken, None)
        assert isinstance(outcome, own or (DeadlineExceededError, UnavailableError))
        if isinstance(outcome, Classification):
            assert outcome.model == str(self.taken)
        self.taken += 1

    @invariant()
    def holds_what_was_read_and_not_taken(self) -> None:
        assert len(self.state) == self.added - self.taken <= self.size
        assert (self.state.next_wake() is None) <= (len(self.state) == 0)

    def teardown(self) -> None:
        self.now += 20.0
        for _ in range(len(self.state)):
            self.take()
        assert self.taken == self.added
        assert self.state.due(self.now) == []


TestWindowUnderStress = WindowUnderStress.TestCase
TestWindowUnderStress.settings = settings(max_examples=scaled(150), stateful_step_count=40)
