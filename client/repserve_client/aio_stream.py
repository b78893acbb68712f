"""The asyncio side of streams: one task reads the input, one the answers, the consumer's task sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Self, TypeAlias

import grpc

from repserve_client.errors import ClientError, UnavailableError, from_rpc_error
from repserve_client.requests import ImageInput
from repserve_client.stream import END_TIMEOUT, ENDED_EARLY
from repserve_client.window import Outcome, StreamWindow
from repserve_protos.v1 import classification_pb2

Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[classification_pb2.ClassifyStreamRequest, classification_pb2.ClassifyStreamResponse]"
)
StartCall: TypeAlias = "Callable[[AsyncIterator[classification_pb2.ClassifyStreamRequest]], Call]"
Build: TypeAlias = Callable[[ImageInput], Awaitable[classification_pb2.ClassifyRequest]]


class AsyncStreamDriver:
    """Sends a window's requests over one RPC at a time, and a new one after each that broke."""

    def __init__(self, window: StreamWindow, start: StartCall, build: Build, clock: Callable[[], float]) -> None:
        self._window = window
        self._start = start
        self._build = build
        self._clock = clock
        self._progress = asyncio.Event()
        self._room = asyncio.Event()
        self._rpc: _Rpc | None = None

    async def outcomes(self, images: Iterable[ImageInput] | AsyncIterable[ImageInput]) -> AsyncGenerator[Outcome, None]:
        """Yield one outcome for each of ``images``, in their order; end the RPC when closed or exhausted."""
        window = self._window
        feeder = asyncio.create_task(self._feed(images))
        feeder.add_done_callback(self._fed)
        try:
            while len(window) or not feeder.done():
                self._progress.clear()
                self._exchange()
                outcome = window.take(self._clock())
                if outcome is None:
                    await self._wait()
                    continue
                self._room.set()
                yield outcome
                # A consumer that never waits would otherwise keep the input from being read.
                await asyncio.sleep(0)
            if self._rpc is not None and not window.abandoned:
                await self._rpc.finish()
        finally:
            feeder.cancel()
            if self._rpc is not None:
                self._rpc.cancel()
        await feeder

    def _fed(self, feeder: asyncio.Task[None]) -> None:
        self._progress.set()
        if not feeder.cancelled():
            # Marks an exception as seen, for a consumer that leaves before it is raised.
            feeder.exception()

    async def _feed(self, images: Iterable[ImageInput] | AsyncIterable[ImageInput]) -> None:
        async with aclosing(_each(images)) as source:
            while True:
                while not self._window.room:
                    self._room.clear()
                    await self._room.wait()
                try:
                    image = await anext(source)
                except StopAsyncIteration:
                    return
                try:
                    request = await self._build(image)
                except ClientError as error:
                    self._window.add_failed(error)
                else:
                    self._window.add(request, self._clock())
                self._progress.set()

    def _exchange(self) -> None:
        if self._rpc is not None and (error := self._rpc.error) is not None:
            # gRPC would wait for the next message of a stream that is over.
            self._rpc.cancel()
            self._rpc = None
            self._window.broken(error, self._clock())
        for message in self._window.due(self._clock()):
            if self._rpc is None:
                self._rpc = _Rpc(self._start, self._receive, self._progress)
            self._rpc.send(message)

    def _receive(self, message: classification_pb2.ClassifyStreamResponse) -> None:
        self._window.answered(message, self._clock())
        self._progress.set()

    async def _wait(self) -> None:
        wake = self._window.next_wake()
        # Without a wake there is nothing under way but the input, and the input may take its time.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wake is None else max(wake - self._clock(), 0.0)):
                await self._progress.wait()


class _Rpc:
    """One ClassifyStream call."""

    def __init__(
        self,
        start: StartCall,
        receive: Callable[[classification_pb2.ClassifyStreamResponse], None],
        progress: asyncio.Event,
    ) -> None:
        self.error: ClientError | None = None
        """Why the call has ended; None while it runs."""
        self._receive = receive
        self._progress = progress
        self._outbox = _Outbox()
        self._call = start(self._outbox)
        self._reader = asyncio.create_task(self._read())

    def send(self, message: classification_pb2.ClassifyStreamRequest) -> None:
        self._outbox.put(message)

    async def finish(self) -> None:
        """End the requests, and give the server a moment to end the call itself."""
        self._outbox.put(None)
        await asyncio.wait([self._reader], timeout=END_TIMEOUT)

    def cancel(self) -> None:
        """End the call and its tasks."""
        self._call.cancel()
        self._outbox.put(None)
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            async for response in self._call:
                self._receive(response)
            self.error = UnavailableError(ENDED_EARLY)
        except grpc.RpcError as error:
            self.error = from_rpc_error(error)
        except asyncio.CancelledError:
            # Cancelled by `cancel`, or by a channel that was closed.
            self.error = UnavailableError("the call was cancelled")
        finally:
            self._progress.set()


class _Outbox:
    """The requests that gRPC's own task reads until None is put. Not a generator: those need closing."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[classification_pb2.ClassifyStreamRequest | None] = asyncio.Queue()

    def put(self, message: classification_pb2.ClassifyStreamRequest | None) -> None:
        self._queue.put_nowait(message)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> classification_pb2.ClassifyStreamRequest:
        message = await self._queue.get()
        if message is None:
            raise StopAsyncIteration
        return message


async def _each(images: Iterable[ImageInput] | AsyncIterable[ImageInput]) -> AsyncGenerator[ImageInput, None]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
