"""The servicer without a network: each streamed request ends with its own answer, also through a drain."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import grpc
import pytest

from repserve_protos.v1 import classification_pb2 as pb
from repserve_server.dataplane.recorder import Recorder
from repserve_server.protocols.grpc.classification import ClassificationService
from support.dataplane_harness import DataplaneHarness
from support.queue_harness import WAIT_SECONDS, run_async, settle


class AbortedError(Exception):
    """An RPC that was ended with a status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeContext:
    """An RPC that tests feed with requests: what the servicer reads, its answers, its status."""

    def __init__(self) -> None:
        self.written: list[pb.ClassifyStreamResponse] = []
        self._requests: asyncio.Queue[object] = asyncio.Queue()

    def send(self, number: int, model: str = "digits", size: int = 12) -> None:
        request = pb.ClassifyRequest(model=model, pixels=pb.Pixels(count=1, data=bytes(size)))
        self._requests.put_nowait(pb.ClassifyStreamRequest(id=number, request=request))

    def end(self) -> None:
        self._requests.put_nowait(grpc.aio.EOF)  # type: ignore[attr-defined]

    def fail(self, error: Exception) -> None:
        self._requests.put_nowait(error)

    def time_remaining(self) -> float | None:
        return None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> object:
        request = await self._requests.get()
        if isinstance(request, Exception):
            raise request
        return request

    async def write(self, answer: pb.ClassifyStreamResponse) -> None:
        self.written.append(answer)

    async def abort(self, code: grpc.StatusCode, message: str, metadata: object) -> NoReturn:
        raise AbortedError(code, f"{message} {metadata}")


class StreamHarness(DataplaneHarness):
    """One stream on a service with one worker."""

    def __init__(self) -> None:
        super().__init__()
        self.clock.now = 0.0  # the service itself counts from the real clock
        self.service = ClassificationService(self.dataplane, Recorder(self.metrics), 60.0)
        self.worker = self.start_worker()
        self.context = FakeContext()
        self.rpc = asyncio.ensure_future(self.service.ClassifyStream(None, self.context))

    def ids(self) -> list[int]:
        return [answer.id for answer in self.context.written]


def test_answers_come_in_the_order_of_completion() -> None:
    async def test() -> None:
        harness = StreamHarness()
        for number in (7, 8, 9):
            harness.context.send(number)
        await settle(12)
        first, second, third = harness.worker.read()
        harness.worker.answer([third])
        await settle(8)
        harness.worker.answer([first, second])
        harness.context.end()
        await asyncio.wait_for(harness.rpc, WAIT_SECONDS)
        assert harness.ids() == [9, 7, 8]
        assert all(answer.WhichOneof("outcome") == "response" for answer in harness.context.written)

    run_async(test)


def test_a_bad_request_is_answered_with_its_status_and_the_stream_goes_on() -> None:
    async def test() -> None:
        harness = StreamHarness()
        harness.context.send(1, model="cats")
        harness.context.send(2, size=5)
        harness.context.send(3)
        harness.context.end()
        await settle(12)
        harness.worker.answer(harness.worker.read())
        await asyncio.wait_for(harness.rpc, WAIT_SECONDS)
        codes = {answer.id: answer.status.code for answer in harness.context.written}
        assert codes == {1: 5, 2: 3, 3: 0}
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_drain_answers_what_was_taken_and_ends_the_stream_unavailable() -> None:
    async def test() -> None:
        harness = StreamHarness()
        harness.context.send(1)
        await settle(12)
        drain = asyncio.ensure_future(harness.dataplane.drain())
        await settle()
        harness.context.send(2)
        await settle(12)
        assert not drain.done()
        harness.worker.answer(harness.worker.read())
        with pytest.raises(AbortedError) as caught:
            await asyncio.wait_for(harness.rpc, WAIT_SECONDS)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        codes = {answer.id: answer.status.code for answer in harness.context.written}
        assert codes == {1: 0, 2: 14}
        await asyncio.wait_for(drain, WAIT_SECONDS)

    run_async(test)


def test_a_drain_ends_an_idle_stream() -> None:
    async def test() -> None:
        harness = StreamHarness()
        await settle()
        await asyncio.wait_for(harness.dataplane.drain(), WAIT_SECONDS)
        with pytest.raises(AbortedError) as caught:
            await asyncio.wait_for(harness.rpc, WAIT_SECONDS)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE

    run_async(test)


def test_a_cancelled_stream_calls_its_images_back() -> None:
    async def test() -> None:
        harness = StreamHarness()
        for number in range(3):
            harness.context.send(number)
        await settle(12)
        held = harness.worker.read()
        assert len(held) == 3
        harness.rpc.cancel()
        await settle(8)
        harness.worker.read()
        assert {entry.slot for entry in harness.worker.cancelled} == {entry.slot for entry in held}
        harness.worker.answer(held)
        await settle()
        assert harness.queue.occupied == 0

    run_async(test)


def test_a_stream_that_cannot_be_read_does_not_end_well() -> None:
    async def test() -> None:
        harness = StreamHarness()
        harness.context.fail(RuntimeError("the transport is broken"))
        with pytest.raises((AbortedError, RuntimeError)):
            await asyncio.wait_for(harness.rpc, WAIT_SECONDS)

    run_async(test)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.ClassifyRequest(), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.ClassifyRequest(model="cats", encoded_image=b"x"), grpc.StatusCode.NOT_FOUND),
        (pb.ClassifyRequest(encoded_image=b""), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.ClassifyRequest(version="9", encoded_image=b"x", model="digits"), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_a_unary_request_that_cannot_succeed_has_its_status(
    request_: pb.ClassifyRequest, code: grpc.StatusCode
) -> None:
    async def test() -> None:
        harness = StreamHarness()
        with pytest.raises(AbortedError) as caught:
            await harness.service.Classify(request_, harness.context)
        assert caught.value.code is code
        harness.context.end()
        await harness.rpc
        assert harness.queue.occupied == 0

    run_async(test)


def test_requests_of_a_stream_that_is_given_up_are_counted() -> None:
    async def test() -> None:
        harness = StreamHarness()
        for number in (1, 2):
            harness.context.send(number)
        harness.context.send(3, model="cats")
        await settle(12)
        assert len(harness.worker.read()) == 2
        harness.rpc.cancel()
        with pytest.raises(asyncio.CancelledError):
            await harness.rpc
        await settle(8)

        def counted(model: str, version: str, code: str) -> float | None:
            labels = {"model": model, "version": version, "protocol": "grpc", "method": "ClassifyStream", "code": code}
            return harness.metrics.registry.get_sample_value("repserve_requests_total", labels)

        assert counted("digits", "1", "CANCELLED") == 2
        assert counted("", "", "NOT_FOUND") == 1

    run_async(test)
