from __future__ import annotations

import time
from pathlib import Path

import pytest

from repserve_bench.counts import Counts
from repserve_bench.dataset import Sample
from repserve_client.errors import DeadlineExceededError, UnavailableError
from repserve_protos.v1 import classification_pb2 as pb

SAMPLES = (Sample(Path("a.jpg"), 3), Sample(Path("b.jpg"), 4))
GROUPS = (SAMPLES[:1], SAMPLES[1:], SAMPLES)


def response(*classes: int) -> pb.ClassifyResponse:
    """An answer with one prediction for each class; a negative one lists no classes."""
    predictions = [
        pb.Prediction(classes=[pb.RankedClass(index=index, probability=0.9)] if index >= 0 else []) for index in classes
    ]
    return pb.ClassifyResponse(version="1", predictions=predictions)


def test_answers_after_the_end_do_not_count() -> None:
    counts = Counts(GROUPS)
    counts.answered(0, response(3), 0.0, 1.0)
    tally, predictions = counts.close(), dict(counts.predictions)
    counts.answered(1, response(4), 0.0, 1.0)
    counts.failed(UnavailableError("gone"), 0.0)
    counts.sent(0.0, 0.0)
    counts.retried("UNAVAILABLE")
    assert (tally.requests, tally.images, tally.worst_send_lag, tally.retries.total()) == (1, 1, 0.0, 0)
    assert counts.predictions == predictions == {"a.jpg": counts.predictions["a.jpg"]}


@pytest.mark.parametrize("answer", [response(3), response(3, 4, 5), response(3, -1), response()])
def test_an_answer_that_does_not_fit_the_request_is_a_failure_and_not_an_end(answer: pb.ClassifyResponse) -> None:
    counts = Counts(GROUPS)
    counts.answered(2, answer, 0.0, 1.0)
    tally = counts.take()
    assert (tally.requests, tally.failed, tally.images) == (1, 1, 0)
    assert "2 images were sent" in tally.failures["INTERNAL"]
    assert not counts.predictions


def test_a_request_that_timed_out_counts_with_its_wait() -> None:
    counts = Counts(GROUPS)
    counts.answered(0, response(3), 0.0, 0.010)
    counts.failed(UnavailableError("refused at once"), time.monotonic())
    counts.failed(DeadlineExceededError("no answer"), time.monotonic() - 8.0)
    tally = counts.take()
    assert tally.percentile(50) == pytest.approx(0.010)
    assert tally.percentile(99) == pytest.approx(8.0, abs=0.5)
    assert len(tally.latencies) == 1
    assert len(tally.waited) == 2


def test_waiting_for_room_is_not_blamed_on_the_client() -> None:
    counts, now = Counts(GROUPS), time.monotonic()
    counts.sent(due=now - 3.0, free=now)
    tally = counts.take()
    assert tally.worst_hold == pytest.approx(3.0)
    assert tally.worst_send_lag < 1.0


def test_an_open_request_at_the_end_counts_with_its_wait_and_is_no_failure() -> None:
    counts, now = Counts(GROUPS), time.monotonic()
    for due in (now - 2.0, now - 2.0, now - 1.0):
        counts.sent(due, due)
    counts.answered(0, response(3), now - 2.0, now)
    tally = counts.close()
    assert (tally.requests, tally.failed, tally.unanswered) == (1, 0, 2)
    assert sorted(tally.given_up) == pytest.approx([1.0, 2.0], abs=0.5)
    assert counts.last_ended == now
