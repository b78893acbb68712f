"""Calls of one request and one answer with both clients, over real connections."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from repserve_client import (
    Classification,
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    RetryPolicy,
    UnavailableError,
)
from support.connections import WAIT_SECONDS, Connect, first_times, images, indices
from support.fake_server import FakeServer, Refusal, default_answer

if TYPE_CHECKING:
    from repserve_protos.v1.classification_pb2 import (
        ClassifyRequest,
        ClassifyResponse,
        ListModelsRequest,
        ListModelsResponse,
    )


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
        release.wait(WAIT_SECONDS)
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
        client.wait_until_ready(WAIT_SECONDS, model="fake")
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


def test_a_policy_limits_the_attempts(connect: Connect) -> None:
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "loading")
    policy = RetryPolicy(max_attempts=2)
    with FakeServer(first_times(9, refusal)) as server, connect(server.address, retry=policy) as client:
        with pytest.raises(UnavailableError):
            client.classify(b"x")
        assert len(server.unary_requests) == 2
