"""The messages between frontends and workers: what goes in comes out, and every message fits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.channel.messages import (
    MAX_ENTRIES,
    MAX_MESSAGE,
    Answer,
    Cancellation,
    CloseReason,
    Outcome,
    Priority,
    SlotOutcome,
    Submission,
    pack_answer,
    pack_cancellations,
    pack_submissions,
    unpack_answer,
    unpack_for_worker,
)

numbers = st.integers(0, 2**32 - 1)
times = st.floats(allow_nan=False)
submissions = st.builds(Submission, numbers, numbers, times, st.booleans(), st.sampled_from(Priority), numbers)
answers = st.builds(
    Answer,
    st.integers(0, 256),
    st.integers(0, 256),
    st.sampled_from(CloseReason),
    times,
    times,
    st.lists(st.builds(SlotOutcome, numbers, numbers, st.sampled_from(Outcome)), max_size=20),
    numbers,
)


@given(st.lists(submissions, min_size=1, max_size=20))
def test_submissions_come_out_as_they_went_in(entries: list[Submission]) -> None:
    assert unpack_for_worker(pack_submissions(entries)) == entries


@given(st.lists(st.builds(Cancellation, numbers, numbers), min_size=1, max_size=20))
def test_cancellations_come_out_as_they_went_in(entries: list[Cancellation]) -> None:
    assert unpack_for_worker(pack_cancellations(entries)) == entries


@given(answers)
def test_answers_come_out_as_they_went_in(answer: Answer) -> None:
    assert unpack_answer(pack_answer(answer)) == answer


def test_the_longest_lists_fit_into_a_message() -> None:
    last = 2**32 - 1
    submitted = [Submission(last, last, math.inf, True)] * MAX_ENTRIES
    cancelled = [Cancellation(last, last)] * MAX_ENTRIES
    assert len(pack_submissions(submitted)) <= MAX_MESSAGE
    assert len(pack_cancellations(cancelled)) <= MAX_MESSAGE


def test_a_message_for_the_other_side_is_refused() -> None:
    answer = pack_answer(Answer(1, 1, CloseReason.FULL, 0.0, 1.0, [SlotOutcome(0, 1, Outcome.SCORED)]))
    with pytest.raises(ValueError, match="a worker got a message of unknown kind"):
        unpack_for_worker(answer)
    with pytest.raises(ValueError, match="a frontend got a message of unknown kind"):
        unpack_answer(pack_submissions([Submission(0, 1, 0.0, False)]))
