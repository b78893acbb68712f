"""The asyncio client."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import grpc

from repserve_client.aio_stream import AsyncStreamDriver, Call
from repserve_client.channels import LeastInFlight, channel_options, checked_address
from repserve_client.errors import ClientClosedError, ClientError, from_rpc_error
from repserve_client.readiness import POLL_INTERVAL, ReadinessWait
from repserve_client.requests import ImageInput, RequestBuilder
from repserve_client.results import Classification, ModelInfo
from repserve_client.retry import Attempts, RetryPolicy, checked_timeout
from repserve_client.window import Outcome, StreamWindow
from repserve_protos.v1 import classification_pb2, classification_pb2_grpc

_Response = TypeVar("_Response")


class AsyncClient:
    """Classifies images on a RepServe server from asyncio; belongs to the event loop that first uses it.

    Takes what `Client` takes. Connections are made when first needed. Close the client, or use it as an
    asynchronous context manager.
    """

    def __init__(
        self,
        address: str,
        *,
        channels: int = 1,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._address = checked_address(address)
        self._picker = LeastInFlight(channels)
        self._timeout = checked_timeout(timeout)
        self._policy = retry or RetryPolicy()
        self._credentials = credentials
        self._count = channels
        self._channels: list[grpc.aio.Channel] = []
        self._stubs: list[classification_pb2_grpc.ClassificationAsyncStub] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is in flight and close the connections."""
        self._closed = True
        channels, self._channels = self._channels, []
        for channel in channels:
            await channel.close(None)

    async def classify(
        self,
        image: ImageInput,
        *,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        urgent: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - sent to the server as well, retries included
    ) -> Classification:
        """Classify one image, or one array of images, as `Client.classify` does.

        Raises:
            ClientError: Or a subclass that says what went wrong.
        """
        request = await _build(RequestBuilder(model, version, top_k, urgent), image)
        response = await self._call(lambda stub, limit: stub.Classify(request, timeout=limit), timeout)
        return Classification.from_message(response)

    def classify_stream(
        self,
        images: Iterable[ImageInput] | AsyncIterable[ImageInput],
        *,
        window: int = 32,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        urgent: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """Classify many images over one stream, as `Client.classify_stream` does.

        ``images`` may be an ordinary or an asynchronous iterable; a slow asynchronous one delays no outcome. To stop
        early and at once, call ``aclose()`` on the returned generator.

        Raises:
            ClientClosedError: When the client is closed.
            InvalidArgumentError: When ``top_k`` or ``timeout`` is invalid.
            ValueError: When ``window`` is less than 1.
        """
        builder = RequestBuilder(model, version, top_k, urgent)
        state = StreamWindow(window, self._policy, self._timeout if timeout is None else timeout)

        def build(image: ImageInput) -> Awaitable[classification_pb2.ClassifyRequest]:
            return _build(builder, image)

        return AsyncStreamDriver(state, self._start_stream, build, time.monotonic).outcomes(images)

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:  # noqa: ASYNC109 - as in classify
        """List the models of the server's repository, whether they are ready, and what runs them.

        Raises:
            ClientError: When the server does not answer within ``timeout`` seconds.
        """
        request = classification_pb2.ListModelsRequest()
        response = await self._call(lambda stub, limit: stub.ListModels(request, timeout=limit), timeout)
        return [ModelInfo.from_message(model) for model in response.models]

    async def wait_until_ready(self, timeout: float, *, model: str = "") -> None:  # noqa: ASYNC109 - as in classify
        """Wait until the server can be reached and ``model``, or any model when it is empty, is ready.

        Raises:
            DeadlineExceededError: When it is not ready within ``timeout`` seconds; the message says why.
            ClientError: When waiting would not help.
        """
        wait = ReadinessWait(model, timeout, time.monotonic)
        while True:
            limit = wait.begin()
            try:
                if wait.ready(await self.models(timeout=limit)):
                    return
            except ClientError as error:
                wait.failed(error)
            await asyncio.sleep(POLL_INTERVAL)

    async def _call(
        self,
        invoke: Callable[[classification_pb2_grpc.ClassificationAsyncStub, float], Awaitable[_Response]],
        timeout: float | None,  # noqa: ASYNC109 - as in classify
    ) -> _Response:
        limit = self._timeout if timeout is None else checked_timeout(timeout)
        attempts = Attempts(self._policy, limit, time.monotonic)
        while True:
            stubs = self._connect()
            remaining = attempts.begin()
            channel = self._picker.pick()
            try:
                return await invoke(stubs[channel], remaining)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            except (asyncio.CancelledError, grpc.aio.UsageError):
                # A closing channel cancels its calls; a task that is cancelled itself stays so.
                task = asyncio.current_task()
                if task is None or not task.cancelling():
                    self._check_open()
                raise
            finally:
                self._picker.release(channel)
            self._check_open()
            await asyncio.sleep(attempts.delay_after(failure))

    def _start_stream(self, requests: AsyncIterator[classification_pb2.ClassifyStreamRequest]) -> Call:
        stubs = self._connect()
        channel = self._picker.pick()
        try:
            call = stubs[channel].ClassifyStream(requests)
        except BaseException:
            self._picker.release(channel)
            raise
        call.add_done_callback(lambda _: self._picker.release(channel))
        return call

    def _connect(self) -> list[classification_pb2_grpc.ClassificationAsyncStub]:
        """Return the stubs; the channels are made here because they need the running loop."""
        self._check_open()
        if not self._channels:
            options = channel_options(self._address)
            self._channels = [
                grpc.aio.insecure_channel(self._address, options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._address, self._credentials, options)
                for _ in range(self._count)
            ]
            self._stubs = [classification_pb2_grpc.ClassificationStub(channel) for channel in self._channels]
        return self._stubs

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed")


async def _build(builder: RequestBuilder, image: ImageInput) -> classification_pb2.ClassifyRequest:
    if isinstance(image, str | os.PathLike):
        return await asyncio.to_thread(builder.build, image)
    return builder.build(image)
