"""What both clients do, over real connections."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest

from fake_server import FakeServer, Refusal, StreamBreak, default_answer
from repserve_client import (
    AsyncClient,
    Classification,
    Client,
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    ImageInput,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    RetryPolicy,
    UnavailableError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_protos.v1.classification_pb2 import (
        ClassifyRequest,
        ClassifyResponse,
        ListModelsRequest,
        ListModelsResponse,
    )

Connect = Callable[..., Client]
_WAIT = 20.0


class Blocking:
    """Lets an `AsyncClient` be used as if it were a `Client`, so that one test serves both."""

    def __init__(self, client: AsyncClient) -> None:
        self._runner = asyncio.Runner()
        self._client = client

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def classify_stream(self, images: Iterable[bytes], **options: object) -> Iterator[Classification | ClientError]:
        outcomes = self._client.classify_stream(images, **options)  # type: ignore[arg-type]

        async def following() -> Classification | ClientError | None:
            return await anext(outcomes, None)

        try:
            while (outcome := self._runner.run(following())) is not None:
                yield outcome
        finally:
            self._runner.run(outcomes.aclose())


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client, with the arguments of `Client`."""
    if request.param == "Client":
        return Client
    return lambda *arguments, **options: cast("Client", Blocking(AsyncClient(*arguments, **options)))


def images(count: int) -> list[bytes]:
    """Images whose class at the fake server is their place."""
    return [b"x" * (10 + number) for number in range(count)]


def indices(outcomes: Iterable[Classification | ClientError]) -> list[int | str]:
    return [
        outcome.predictions[0].best.index if isinstance(outcome, Classification) else outcome.code
        for outcome in outcomes
    ]


def size(request: ClassifyRequest) -> int:
    return len(request.encoded_image) - 10


def first_times(count: int, error: Refusal) -> Callable[[ClassifyRequest], ClassifyResponse]:
    """A script that raises ``error`` the first ``count`` times."""
    turns = itertools.count()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if next(turns) < count:
            raise error
        return default_answer(request)

    return script


def test_an_image_is_classified_with_the_options_given(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        result = client.classify(b"seven b", model="a0", version="4", top_k=3)
    assert result == Classification.from_message(default_answer(server.unary_requests[0]))
    assert result.predictions[0].best.index == 7
    (request,) = server.unary_requests
    assert (request.model, request.version, request.top_k) == ("a0", "4", 3)


def test_an_array_of_images_has_a_prediction_each(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        result = client.classify(np.zeros((5, 8, 8, 3), np.uint8))
    assert len(result.predictions) == 5
    assert server.unary_requests[0].pixels.count == 5


def test_an_image_larger_than_grpcs_own_limit_is_taken(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        assert client.classify(bytes(6_000_001)).predictions[0].best.index == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhaustedError),
        (grpc.StatusCode.INTERNAL, InternalError),
    ],
)
def test_an_error_that_retrying_cannot_mend_is_raised_at_once(
    connect: Connect, code: grpc.StatusCode, kind: type[ClientError]
) -> None:
    with FakeServer(first_times(1, Refusal(code, "the reason"))) as server, connect(server.address) as client:
        with pytest.raises(kind, match="the reason"):
            client.classify(b"x")
        assert len(server.unary_requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(grpc.StatusCode.UNAVAILABLE),
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.01),
    ],
)
def test_a_passing_error_is_retried(connect: Connect, refusal: Refusal) -> None:
    with FakeServer(first_times(2, refusal)) as server, connect(server.address) as client:
        assert client.classify(b"x" * 4).predictions[0].best.index == 4
        assert len(server.unary_requests) == 3


def test_a_hint_beyond_the_deadline_is_raised_with_the_hint(connect: Connect) -> None:
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=60.0)
    with FakeServer(first_times(9, refusal)) as server, connect(server.address) as client:
        with pytest.raises(ResourceExhaustedError) as raised:
            client.classify(b"x", timeout=5.0)
        assert raised.value.retry_after == 60.0
        assert len(server.unary_requests) == 1


def test_a_call_ends_at_its_deadline(connect: Connect) -> None:
    release = threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        release.wait(_WAIT)
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        with pytest.raises(DeadlineExceededError):
            client.classify(b"x", timeout=0.1)
        release.set()


def test_a_server_that_is_not_there_is_unavailable(connect: Connect) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        with connect(f"127.0.0.1:{unused.getsockname()[1]}", timeout=0.3) as client:
            with pytest.raises(UnavailableError):
                client.classify(b"x")
            assert indices(client.classify_stream(images(3))) == ["UNAVAILABLE"] * 3


def test_several_channels_are_several_connections(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address, channels=3) as client:
        for image in images(6):
            client.classify(image)
        assert len(server.peers) == 3


def test_models_are_listed(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        (model,) = client.models()
    assert (model.name, model.ready, model.crop) == ("fake", True, 224)


class SlowToLoad(FakeServer):
    def ListModels(  # noqa: N802
        self, request: ListModelsRequest, context: grpc.ServicerContext
    ) -> ListModelsResponse:
        response = super().ListModels(request, context)
        self.models[0].ready = True
        return response


def test_a_server_that_is_still_loading_is_waited_for(connect: Connect) -> None:
    with SlowToLoad() as server, connect(server.address) as client:
        server.models[0].ready = False
        client.wait_until_ready(_WAIT, model="fake")
        with pytest.raises(DeadlineExceededError, match="it has no model other"):
            client.wait_until_ready(0.3, model="other")


def test_a_closed_client_says_so(connect: Connect) -> None:
    with FakeServer() as server, connect(server.address) as client:
        client.classify(b"x")
        client.close()
        client.close()
        for use in (
            lambda: client.classify(b"x"),
            client.models,
            lambda: list(client.classify_stream([b"x"])),
        ):
            with pytest.raises(ClientClosedError):
                use()


def test_a_stream_keeps_the_order_of_the_input_when_answers_come_in_another(connect: Connect) -> None:
    others = threading.Semaphore(0)

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if size(request) == 0:
            for _ in range(7):
                assert others.acquire(timeout=_WAIT)
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
            hold.wait(_WAIT)
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
            release.wait(_WAIT)
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
            hold.wait(_WAIT)
        return default_answer(request)

    with FakeServer(script) as server, connect(server.address) as client:
        outcomes = client.classify_stream(images(10))
        assert indices([next(outcomes)]) == [0]
        assert not server.stream_ended.is_set()
        outcomes.close()
        assert server.stream_ended.wait(_WAIT)
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


def test_a_policy_limits_the_attempts(connect: Connect) -> None:
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "loading")
    policy = RetryPolicy(max_attempts=2)
    with FakeServer(first_times(9, refusal)) as server, connect(server.address, retry=policy) as client:
        with pytest.raises(UnavailableError):
            client.classify(b"x")
        assert len(server.unary_requests) == 2
