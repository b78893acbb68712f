from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest

from repserve_bench.dataset import Sample
from repserve_bench.errors import LoadError
from repserve_bench.load import run_load
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings
from support.fake_server import FakeServer, Refusal, StreamBreak, default_answer

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_bench.tally import Tally
    from repserve_bench.transport.base import TransportName
    from repserve_protos.v1 import classification_pb2 as pb

IMAGES = 20


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Files of 100 to 119 bytes, each labelled with the class that the fake server answers."""
    found = []
    for number in range(IMAGES):
        path = tmp_path / f"{number:02}.jpg"
        path.write_bytes(b"\x00" * (100 + number))
        found.append(Sample(path, number % 10))
    return found


def settings(server: FakeServer, **changes: object) -> LoadSettings:
    base = LoadSettings(server.address, concurrency=8, timeout=20.0, input=InputSettings(model="fake"))
    return replace(base, **changes)  # type: ignore[arg-type]


class FailsFirst:
    """Refuses the first request of each image, then answers."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._seen: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        with self._lock:
            self._seen[len(request.encoded_image)] += 1
            first = self._seen[len(request.encoded_image)] == 1
        if first:
            raise self._refusal
        return default_answer(request)


both_transports = pytest.mark.parametrize("transport", ["stream", "unary"])


@both_transports
def test_every_image_is_answered_and_counted(
    server: FakeServer, samples: list[Sample], transport: TransportName
) -> None:
    seen: list[int] = []

    def progress(tally: Tally, _elapsed: float) -> None:
        seen.append(tally.requests)

    result = run_load(samples, settings(server, transport=transport, processes=2, requests=3 * IMAGES), progress)
    tally = result.tally
    assert tally.statuses == Counter(OK=3 * IMAGES)
    assert len(tally.latencies) == 3 * IMAGES
    # An image counts once, however often it is sent.
    assert (tally.accuracy.images, tally.accuracy.top1) == (IMAGES, 1.0)
    assert {name: answer.best.index for name, answer in result.predictions.items()} == {
        sample.name: sample.label for sample in samples
    }
    assert tally.mean_per_image(tally.decode_seconds) == pytest.approx(0.0005)
    assert result.processes == 2
    assert result.cpu_seconds > 0
    assert result.fps > 0
    assert seen[-1] == 3 * IMAGES
    requests = server.stream_requests if transport == "stream" else server.unary_requests
    assert len(requests) == 3 * IMAGES
    sent = [item.request if hasattr(item, "request") else item for item in requests]
    assert Counter(len(request.encoded_image) for request in sent) == Counter(
        {100 + number: 3 for number in range(IMAGES)}
    )


def test_a_stream_carries_the_time_limit_and_ids_are_unique_in_flight(
    server: FakeServer, samples: list[Sample]
) -> None:
    # One image and eight in flight: the id made in advance can serve one of them only.
    result = run_load(samples[:1], settings(server, processes=1, channels=1, requests=40))
    assert result.tally.statuses == Counter(OK=40)
    assert all(request.timeout_milliseconds >= 19_000 for request in server.stream_requests)


@both_transports
def test_unavailable_is_tried_again(server: FakeServer, samples: list[Sample], transport: TransportName) -> None:
    server.script = FailsFirst(Refusal(grpc.StatusCode.UNAVAILABLE))
    result = run_load(samples, settings(server, transport=transport))
    assert result.tally.statuses == Counter(OK=IMAGES)
    assert result.tally.retries == Counter(UNAVAILABLE=IMAGES)
    assert result.tally.accuracy.images == IMAGES


@both_transports
def test_exhausted_is_retried_after_the_delay_that_the_server_sent(
    server: FakeServer, samples: list[Sample], transport: TransportName
) -> None:
    server.script = FailsFirst(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.05))
    result = run_load(samples, settings(server, transport=transport))
    assert result.tally.statuses == Counter(OK=IMAGES)
    assert result.tally.retries == Counter(RESOURCE_EXHAUSTED=IMAGES)
    assert min(result.tally.latencies) >= 0.05


@both_transports
def test_statuses_that_are_final_are_counted_by_name(
    server: FakeServer, samples: list[Sample], transport: TransportName
) -> None:
    refusals = {
        100: Refusal(grpc.StatusCode.INVALID_ARGUMENT, "not an image"),
        101: Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full"),
        102: Refusal(grpc.StatusCode.INTERNAL, "a NaN"),
    }

    def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        refusal = refusals.get(len(request.encoded_image))
        if refusal is not None:
            raise refusal
        return default_answer(request)

    server.script = script
    result = run_load(samples, settings(server, transport=transport))
    assert result.tally.statuses == Counter(OK=IMAGES - 3, INVALID_ARGUMENT=1, RESOURCE_EXHAUSTED=1, INTERNAL=1)
    assert result.tally.failed == 3
    assert result.tally.failures["INVALID_ARGUMENT"] == "not an image"
    assert not result.tally.retries
    assert len(result.tally.latencies) == IMAGES - 3


def test_requests_of_a_broken_stream_go_on_a_new_one(server: FakeServer, samples: list[Sample]) -> None:
    server.script = FailsFirst(StreamBreak(grpc.StatusCode.UNAVAILABLE, "going away"))
    result = run_load(samples, settings(server, channels=1, concurrency=4))
    assert result.tally.statuses == Counter(OK=IMAGES)
    assert result.tally.retries["UNAVAILABLE"] >= 1
    assert server.streams > 1


@both_transports
def test_a_request_without_an_answer_ends_at_its_time_limit(
    server: FakeServer, samples: list[Sample], transport: TransportName
) -> None:
    answered = threading.Event()

    def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        if len(request.encoded_image) == 100:
            answered.wait(20)
        return default_answer(request)

    server.script = script
    try:
        result = run_load(samples, settings(server, transport=transport, timeout=1.0))
    finally:
        answered.set()
    assert result.tally.statuses == Counter(OK=IMAGES - 1, DEADLINE_EXCEEDED=1)


def test_a_load_by_time_goes_round(server: FakeServer, samples: list[Sample]) -> None:
    result = run_load(samples, settings(server, seconds=0.5))
    assert result.elapsed >= 0.5
    assert result.tally.requests > IMAGES
    assert not result.tally.failed


def test_an_answer_that_changes_between_replays_is_counted(server: FakeServer, samples: list[Sample]) -> None:
    answers = iter(range(10_000))
    lock = threading.Lock()

    def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        response = default_answer(request)
        with lock:
            response.predictions[0].classes[0].index = next(answers)
        return response

    server.script = script
    result = run_load(samples, settings(server, requests=3 * IMAGES))
    assert result.tally.changed_answers == 2 * IMAGES


@pytest.mark.parametrize("transport", ["stream", "unary"])
def test_no_server_is_an_error_that_names_the_address(samples: list[Sample], transport: TransportName) -> None:
    with FakeServer() as gone:
        address = gone.address
    with pytest.raises(LoadError, match=f"no server answers at {address}"):
        run_load(samples, LoadSettings(address, transport=transport))


def test_an_image_that_cannot_be_read_is_an_error(server: FakeServer, samples: list[Sample]) -> None:
    samples[3].path.unlink()
    with pytest.raises(LoadError, match=samples[3].name):
        run_load(samples, settings(server))
