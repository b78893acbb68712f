"""Streams of both clients, over real connections."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from repserve_client import (
    Client,
    ImageInput,
    InvalidArgumentError,
)
from support.connections import WAIT_SECONDS, Connect, first_times, images, indices, size
from support.fake_server import FakeServer, Refusal, StreamBreak, default_answer

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_protos.v1.classification_pb2 import (
        ClassifyRequest,
        ClassifyResponse,
    )


def test_a_stream_keeps_the_order_of_the_input_when_answers_come_in_another(connect: Connect) -> None:
    others = threading.Semaphore(0)

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) == 0:
            for _ in range(7):
                assert others.acquire(timeout=WAIT_SECONDS)
        else:
            others.release()
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        assert indices(client.classify_stream(images(10), window=8)) == list(range(10))
        assert server.streams == 1


def test_a_stream_sends_options_and_what_time_is_left(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        outcomes = list(client.classify_stream(images(2), model="a0", version="4", top_k=3, timeout=9.0))
    assert len(outcomes) == 2
    for message in server.stream_requests:
        assert (message.request.model, message.request.version, message.request.top_k) == ("a0", "4", 3)
        assert 0 < message.timeout_milliseconds <= 9000


def test_one_bad_image_ends_nothing_but_itself(connect: Connect, tmp_path: Path) -> None:
    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) == 1:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the image is corrupt")
        return default_answer(request)

    mixed: list[ImageInput] = [*images(3), tmp_path / "none.jpg", np.zeros((2, 2), np.uint8), b"", *images(1)]
    with FakeServer(script) as server, connect(server.address) as client:
        outcomes = list(client.classify_stream(mixed))
        assert server.streams == 1
    bad = "INVALID_ARGUMENT"
    assert indices(outcomes) == [0, bad, 2, bad, bad, bad, 0]
    assert "corrupt" in str(outcomes[1])
    assert "none.jpg" in str(outcomes[3])


def test_items_the_server_could_not_take_are_sent_again(connect: Connect) -> None:
    script = first_times(5, Refusal(grpc.StatusCode.UNAVAILABLE, "loading"))
    with FakeServer(script) as server, connect(server.address) as client:
        assert indices(client.classify_stream(images(10), window=4)) == list(range(10))
        assert len(server.stream_requests) == 15
        assert server.streams == 1


def test_what_a_broken_stream_left_unanswered_is_sent_on_a_new_one(connect: Connect) -> None:
    turns = itertools.count()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if next(turns) in {3, 12}:
            raise StreamBreak(grpc.StatusCode.UNAVAILABLE, "the frontend died")
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        assert indices(client.classify_stream(images(10) * 3, window=8)) == list(range(10)) * 3
        assert server.streams >= 2


def test_a_stream_broken_for_good_fails_what_was_in_flight_and_goes_on(connect: Connect) -> None:
    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) == 2:
            raise StreamBreak(grpc.StatusCode.INTERNAL, "a bug")
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        assert indices(client.classify_stream(images(5), window=1)) == [0, 1, "INTERNAL", 3, 4]


def test_a_stream_outlives_the_restart_of_the_server(connect: Connect) -> None:
    hold = threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) >= 2:
            hold.wait(WAIT_SECONDS)
        return default_answer(request)

    with FakeServer(script) as first:
        client = connect(first.address)
        outcomes = client.classify_stream(images(10), window=4)
        assert indices([next(outcomes), next(outcomes)]) == [0, 1]
        assert first.wait_for(lambda server: len(server.stream_requests) >= 4)
        hold.set()
    port = int(first.address.rpartition(":")[2])
    with FakeServer(port=port), client:
        assert indices(outcomes) == list(range(2, 10))


def test_an_item_without_an_answer_ends_at_its_deadline_in_its_place(connect: Connect) -> None:
    release = threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) == 1:
            release.wait(WAIT_SECONDS)
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        assert indices(client.classify_stream(images(4), timeout=0.5)) == [0, "DEADLINE_EXCEEDED", 2, 3]
        release.set()


def test_the_input_is_never_read_more_than_the_window_ahead(connect: Connect) -> None:
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for image in images(10) * 4:
            read += 1
            yield image

    most = 0
    with FakeServer() as server, connect(server.address) as client:
        for yielded, _ in enumerate(client.classify_stream(counted(), window=5), 1):
            assert read - yielded <= 5
            most = max(most, read - yielded)
    assert read == 40
    assert most >= 4


def test_what_the_input_raises_comes_after_the_outcomes_before_it(connect: Connect) -> None:
    def broken() -> Iterator[bytes]:
        yield from images(3)
        raise OSError("the disk is gone")

    with FakeServer() as server, connect(server.address) as client:
        outcomes = client.classify_stream(broken(), window=8)
        assert indices(itertools.islice(outcomes, 3)) == [0, 1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(outcomes)


def test_an_empty_input_has_no_outcomes_and_opens_no_stream(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        assert list(client.classify_stream([])) == []
        assert server.streams == 0


def test_a_consumer_that_stops_early_cancels_the_call(connect: Connect) -> None:
    hold = threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) > 0:
            hold.wait(WAIT_SECONDS)
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        outcomes = client.classify_stream(images(10))
        assert indices([next(outcomes)]) == [0]
        assert not server.stream_ended.is_set()
        outcomes.close()
        assert server.stream_ended.wait(WAIT_SECONDS)
        hold.set()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"top_k": 0}, InvalidArgumentError),
        ({"timeout": 0.0}, InvalidArgumentError),
        ({"window": 0}, ValueError),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(
    options: dict[str, Any], kind: type[Exception]
) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(kind):
        client.classify_stream([b"x"], **options)
