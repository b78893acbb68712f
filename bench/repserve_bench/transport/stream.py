"""Requests on ClassifyStream, one stream a connection, in the event loop's thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from typing_extensions import override

from repserve_bench.payloads import Payloads, classify_request
from repserve_bench.transport.base import Transport, no_answer
from repserve_client.channels import channel_options
from repserve_client.errors import (
    ClientError,
    DeadlineExceededError,
    InternalError,
    UnavailableError,
    from_rpc_error,
    from_status,
)
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Content
    from repserve_bench.transport.base import Done

METHOD = "/repserve.v1.Classification/ClassifyStream"
FIRST_FRESH_ID = 1 << 32
"""Ids above it are given when a request's own id, made in advance, is in flight already."""
LONGEST_TIMEOUT = 2**32 - 1
"""Milliseconds, what the field can hold: 49 days."""


class StreamTransport(Transport):
    """Requests take the streams in turn and are matched with their answers by their ids."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._payloads = Payloads(job.groups, job.input, self._make_payload)
        self._channels: list[grpc.aio.Channel] = []
        self._streams: list[_Stream] = []
        self._turn = 0
        self._fresh_id = FIRST_FRESH_ID

    @override
    async def open(self, connect_timeout: float) -> bool:
        await asyncio.to_thread(self._payloads.prepare)
        address = self._job.address
        options = channel_options(address)
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(self._job.channels)]
        self._streams = [_Stream(channel) for channel in self._channels]
        try:
            async with asyncio.timeout(connect_timeout):
                await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        except TimeoutError as error:
            raise no_answer(address) from error
        return self._payloads.kept

    @override
    def send(self, index: int, time_limit: float, done: Done) -> None:
        self._turn = (self._turn + 1) % len(self._streams)
        stream = self._streams[self._turn]
        identity, payload = index + 1, self._payloads[index]
        if stream.in_flight(identity) or time_limit < self._job.timeout:
            self._fresh_id += 1
            identity, payload = self._fresh_id, readdress(payload, self._fresh_id, time_limit)
        stream.send(identity, payload, time_limit, done)

    @override
    async def close(self) -> None:
        for stream in self._streams:
            await stream.close()
        for channel in self._channels:
            await channel.close(grace=None)

    def _make_payload(self, index: int, content: Content) -> bytes:
        request = classify_request(content, self._job.input)
        return stream_request(index + 1, self._job.timeout, request).SerializeToString()


class _Stream:
    """A stream that is opened with its first request, and again after it broke."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD, None, None)
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._outbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting: dict[int, tuple[Done, asyncio.TimerHandle]] = {}

    def in_flight(self, identity: int) -> bool:
        return identity in self._waiting

    def send(self, identity: int, payload: bytes, time_limit: float, done: Done) -> None:
        if self._call is None:
            self._outbox = asyncio.Queue()
            self._call = self._method(_each(self._outbox))
            self._reader = asyncio.create_task(self._read(self._call, self._outbox))
        timer = asyncio.get_running_loop().call_later(time_limit, self._expire, identity, time_limit)
        self._waiting[identity] = (done, timer)
        self._outbox.put_nowait(payload)

    def _expire(self, identity: int, time_limit: float) -> None:
        done, _ = self._waiting.pop(identity)
        done(DeadlineExceededError(f"no answer within {time_limit:.3f} s"))

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes], outbox: asyncio.Queue[bytes | None]) -> None:
        failure: ClientError = UnavailableError("the server ended the stream")
        try:
            while isinstance(data := await call.read(), bytes):
                self._answer(pb.ClassifyStreamResponse.FromString(data))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        except DecodeError as error:
            failure = InternalError(f"the server's answer cannot be parsed: {error}")
            call.cancel()
        # gRPC would wait for the next request of a stream that is over.
        outbox.put_nowait(None)
        self._call = None
        waiting, self._waiting = self._waiting, {}
        for done, timer in waiting.values():
            timer.cancel()
            done(failure)

    def _answer(self, response: pb.ClassifyStreamResponse) -> None:
        waiting = self._waiting.pop(response.id, None)
        if waiting is None:
            return  # It timed out.
        done, timer = waiting
        timer.cancel()
        done(from_status(response.status) if response.WhichOneof("outcome") == "status" else response.response)

    async def close(self) -> None:
        for _, timer in self._waiting.values():
            timer.cancel()
        if self._call is not None:
            self._call.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


async def _each(outbox: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (payload := await outbox.get()) is not None:
        yield payload


def stream_request(
    identity: int, timeout: float, request: pb.ClassifyRequest | None = None
) -> pb.ClassifyStreamRequest:
    """Return a request of a stream; the timeout is in seconds."""
    milliseconds = max(1, int(min(timeout * 1000, LONGEST_TIMEOUT)))
    return pb.ClassifyStreamRequest(id=identity, request=request, timeout_milliseconds=milliseconds)


def readdress(payload: bytes, identity: int, timeout: float) -> bytes:
    """Give a serialised request of a stream another id and timeout.

    They are appended: of a field that comes twice, every protobuf parser takes the last.
    """
    return payload + stream_request(identity, timeout).SerializeToString()
