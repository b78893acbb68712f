"""Two ways to carry a serialised request to the server and its answer back: a call each, or streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

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
    from collections.abc import Callable, Sequence

TransportName = Literal["stream", "unary", "v2"]
"""ClassifyStream and Classify of repserve.v1, and ModelInfer of KServe v2."""

STREAM_METHOD = "/repserve.v1.Classification/ClassifyStream"
REQUEST_TAG = b"\x12"
"""ClassifyStreamRequest.request on the wire: field 2, length-delimited."""
CONTINUED = 0x80
"""The bit of a varint's byte that says that another follows."""
FIRST_FRESH_ID = 1 << 32
"""Ids above it are given when a request's own id, made in advance, is in flight already."""


class Transport(Protocol):
    """Carries serialised requests; many at a time."""

    def frame(self, index: int, request: bytes) -> bytes:
        """Makes, before the clock starts, the bytes on the wire for the ``index``-th request."""

    async def classify(self, index: int, framed: bytes, time_limit: float) -> pb.ClassifyResponse:
        """Sends what ``frame`` made for ``index`` and waits at most ``time_limit`` seconds for the answer.

        Raises:
            ClientError: The attempt ended with another status than OK.
        """

    async def close(self) -> None:
        """Ends what is still in flight."""


def open_channels(address: str, count: int) -> list[grpc.aio.Channel]:
    """Makes ``count`` channels with a connection of their own each."""
    return [grpc.aio.insecure_channel(address, options=channel_options(address)) for _ in range(count)]


@dataclass(frozen=True)
class UnaryMethod:
    """An RPC of one request and one answer."""

    path: str
    read: Callable[[bytes], pb.ClassifyResponse]
    """Parses the answer; raises ClientError where it cannot."""


def _read_response(answer: bytes) -> pb.ClassifyResponse:
    try:
        return pb.ClassifyResponse.FromString(answer)
    except DecodeError as error:
        raise InternalError(f"the server's answer cannot be parsed: {error}") from error


CLASSIFY = UnaryMethod("/repserve.v1.Classification/Classify", _read_response)


class UnaryTransport:
    """A call for each request, over the channels in turn."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], method: UnaryMethod) -> None:
        self._read = method.read
        self._calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(method.path, request_serializer=None, response_deserializer=None)
            for channel in channels
        ]
        self._next = 0

    def frame(self, index: int, request: bytes) -> bytes:
        """Leaves the request as it is; see ``as_it_is``."""
        return as_it_is(index, request)

    async def classify(self, index: int, framed: bytes, time_limit: float) -> pb.ClassifyResponse:  # noqa: ARG002
        """Sends one request; see Transport."""
        self._next = (self._next + 1) % len(self._calls)
        try:
            return self._read(await self._calls[self._next](framed, timeout=time_limit))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def close(self) -> None:
        """Has nothing to end: a cancelled caller cancels its call."""


def as_it_is(index: int, request: bytes) -> bytes:  # noqa: ARG001 - a call needs no id
    """Frames a request for a call, which needs no frame."""
    return request


class StreamTransport:
    """One ClassifyStream a channel; requests go out on the streams in turn and are matched by their ids."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], timeout: float) -> None:
        self._timeout = timeout
        self._streams = [_Stream(channel) for channel in channels]
        self._next = 0

    def frame(self, index: int, request: bytes) -> bytes:
        """Wraps the request with the id ``index + 1`` and the full timeout."""
        return frame(index + 1, request, self._timeout)

    async def classify(self, index: int, framed: bytes, time_limit: float) -> pb.ClassifyResponse:
        """Sends one request; see Transport."""
        self._next = (self._next + 1) % len(self._streams)
        stream = self._streams[self._next]
        identity = index + 1
        if stream.in_flight(identity) or time_limit < self._timeout:
            identity = stream.fresh_id()
            framed = reframe(framed, identity, time_limit)
        try:
            async with asyncio.timeout(time_limit):
                outcome = await stream.exchange(identity, framed)
        except TimeoutError as error:
            raise DeadlineExceededError(f"no answer within {time_limit:.3f} s") from error
        if outcome.WhichOneof("outcome") == "status":
            raise from_status(outcome.status)
        return outcome.response

    async def close(self) -> None:
        """Ends the streams."""
        for stream in self._streams:
            await stream.close()


class _Stream:
    """A stream that is opened at its first request, and anew after it broke."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            STREAM_METHOD, request_serializer=None, response_deserializer=None
        )
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[pb.ClassifyStreamResponse]] = {}
        self._fresh_id = FIRST_FRESH_ID

    def in_flight(self, identity: int) -> bool:
        return identity in self._waiting

    def fresh_id(self) -> int:
        self._fresh_id += 1
        return self._fresh_id

    async def exchange(self, identity: int, framed: bytes) -> pb.ClassifyStreamResponse:
        if self._call is None:
            self._call = self._method()  # type: ignore[call-arg]
            self._reader = asyncio.create_task(self._read(self._call))
        answer: asyncio.Future[pb.ClassifyStreamResponse] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = answer
        try:
            await self._write(self._call, framed)
            return await answer
        finally:
            if self._waiting.get(identity) is answer:
                del self._waiting[identity]

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes], message: bytes) -> None:
        async with self._writing:
            try:
                await call.write(message)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # The stream broke: its reader learns why and fails everything in flight on it.

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        failure: ClientError = UnavailableError("the server ended the stream")
        try:
            while isinstance(data := await call.read(), bytes):
                response = pb.ClassifyStreamResponse.FromString(data)
                answer = self._waiting.get(response.id)
                if answer is not None and not answer.done():
                    answer.set_result(response)
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        except asyncio.CancelledError:
            # Cancelling a request while it is being written cancels the stream; the others go on a new one.
            failure = UnavailableError("the stream was cancelled")
        except DecodeError as error:
            failure = InternalError(f"the server's answer cannot be parsed: {error}")
            call.cancel()
        self._call = None
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(failure)

    async def close(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def frame(identity: int, request: bytes, timeout: float) -> bytes:
    """Puts a serialised ClassifyRequest into a serialised ClassifyStreamRequest."""
    message = pb.ClassifyStreamRequest(id=identity, timeout_milliseconds=_milliseconds(timeout))
    return b"".join((message.SerializeToString(), REQUEST_TAG, varint(len(request)), request))


def reframe(framed: bytes, identity: int, timeout: float) -> bytes:
    """Gives a framed request another id and timeout.

    They are appended: of a field that comes twice, every protobuf parser takes the last.
    """
    message = pb.ClassifyStreamRequest(id=identity, timeout_milliseconds=_milliseconds(timeout))
    return framed + message.SerializeToString()


LONGEST_TIMEOUT = 2**32 - 1
"""Milliseconds, what the field can hold: 49 days."""


def _milliseconds(timeout: float) -> int:
    return max(1, int(min(timeout * 1000, LONGEST_TIMEOUT)))


def varint(value: int) -> bytes:
    """Encodes a non-negative integer as protobuf does: seven bits a byte, least significant first."""
    encoded = bytearray()
    while value >= CONTINUED:
        encoded.append(value % CONTINUED | CONTINUED)
        value //= CONTINUED
    encoded.append(value)
    return bytes(encoded)
