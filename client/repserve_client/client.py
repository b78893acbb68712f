"""The blocking client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from repserve_client.channels import LeastInFlight, channel_options, checked_address
from repserve_client.errors import ClientClosedError, ClientError, from_rpc_error
from repserve_client.readiness import POLL_INTERVAL, ReadinessWait
from repserve_client.requests import ImageInput, RequestBuilder
from repserve_client.results import Classification, ModelInfo
from repserve_client.retry import Attempts, RetryPolicy, checked_timeout
from repserve_client.stream import Call, StreamDriver
from repserve_client.window import Outcome, StreamWindow
from repserve_protos.v1 import classification_pb2, classification_pb2_grpc

_Response = TypeVar("_Response")


class Client:
    """Classifies images on a RepServe server; safe to share between threads.

    Args:
        address: ``host:port`` of the server's gRPC port.
        channels: Connections to keep. More than one helps when the server runs several frontends.
        timeout: Seconds a request may take, retries included, unless a call sets its own.
        retry: When to try again; None for the defaults of `RetryPolicy`.
        credentials: For TLS; None for plain text.

    Raises:
        ValueError: When the address is not ``host:port`` or there is no channel.
        InvalidArgumentError: When the timeout is not a positive number.

    Connections are made when first needed. Close the client, or use it as a context manager.
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
        options = channel_options(checked_address(address))
        self._picker = LeastInFlight(channels)
        self._timeout = checked_timeout(timeout)
        self._policy = retry or RetryPolicy()
        self._channels = [
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
            for _ in range(channels)
        ]
        self._stubs = [classification_pb2_grpc.ClassificationStub(channel) for channel in self._channels]
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight and close the connections; other threads get `ClientClosedError`."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def classify(
        self,
        image: ImageInput,
        *,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        urgent: bool = False,
        timeout: float | None = None,
    ) -> Classification:
        """Classify one image, or one array of images.

        Args:
            image: Encoded bytes, the path of an image, or RGB pixels that are already cropped: uint8
                ``[crop, crop, 3]`` or ``[n, crop, crop, 3]``; more than the model's largest batch run in several.
            model: Name of the model; may be empty when the server serves exactly one.
            version: Version of the model; empty for the newest that is served.
            top_k: How many classes to return for each image.
            urgent: Whether the request goes before others in the queue.
            timeout: Seconds the request may take, retries included.

        Raises:
            ClientError: Or a subclass that says what went wrong.
        """
        request = RequestBuilder(model, version, top_k, urgent).build(image)
        response = self._call(lambda stub, limit: stub.Classify(request, timeout=limit), timeout)
        return Classification.from_message(response)

    def classify_stream(
        self,
        images: Iterable[ImageInput],
        *,
        window: int = 32,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        urgent: bool = False,
        timeout: float | None = None,
    ) -> Generator[Outcome, None, None]:
        """Classify many images over one stream; the outcomes come in the order of ``images``.

        Each outcome is a `Classification`, or the `ClientError` of that image alone. Requests that the server could
        not accept, or that were unanswered when a connection broke, are sent again while their time allows. Images
        are read, and attempts repeated, only while the caller iterates; ``images`` is never read more than ``window``
        ahead. An exception that ``images`` raises is raised after the outcomes before it. To stop early, close the
        returned generator, or drop it.

        Args:
            images: As for `classify`, with the other arguments.
            window: Images in flight at once.
            model: As for `classify`.
            version: As for `classify`.
            top_k: As for `classify`.
            urgent: As for `classify`.
            timeout: Seconds each image may take, from when it is read.

        Raises:
            ClientClosedError: When the client is closed.
            InvalidArgumentError: When ``top_k`` or ``timeout`` is invalid.
            ValueError: When ``window`` is less than 1.
        """
        builder = RequestBuilder(model, version, top_k, urgent)
        state = StreamWindow(window, self._policy, self._timeout if timeout is None else timeout)
        return StreamDriver(state, self._start_stream, time.monotonic).outcomes(_requests(builder, images))

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """List the models of the server's repository, whether they are ready, and what runs them.

        Raises:
            ClientError: When the server does not answer within ``timeout`` seconds.
        """
        request = classification_pb2.ListModelsRequest()
        response = self._call(lambda stub, limit: stub.ListModels(request, timeout=limit), timeout)
        return [ModelInfo.from_message(model) for model in response.models]

    def wait_until_ready(self, timeout: float, *, model: str = "") -> None:
        """Wait until the server can be reached and ``model``, or any model when it is empty, is ready.

        Raises:
            DeadlineExceededError: When it is not ready within ``timeout`` seconds; the message says why.
            ClientError: When waiting would not help.
        """
        wait = ReadinessWait(model, timeout, time.monotonic)
        while True:
            limit = wait.begin()
            try:
                if wait.ready(self.models(timeout=limit)):
                    return
            except ClientError as error:
                wait.failed(error)
            self._sleep(POLL_INTERVAL)

    def _call(
        self,
        invoke: Callable[[classification_pb2_grpc.ClassificationStub, float], _Response],
        timeout: float | None,
    ) -> _Response:
        limit = self._timeout if timeout is None else checked_timeout(timeout)
        attempts = Attempts(self._policy, limit, time.monotonic)
        while True:
            self._check_open()
            remaining = attempts.begin()
            channel = self._picker.pick()
            try:
                return invoke(self._stubs[channel], remaining)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            except ValueError:
                # gRPC raises this where the channel was closed meanwhile.
                self._check_open()
                raise
            finally:
                self._picker.release(channel)
            self._check_open()
            self._sleep(attempts.delay_after(failure))

    def _start_stream(self, requests: Iterator[classification_pb2.ClassifyStreamRequest]) -> Call:
        self._check_open()
        channel = self._picker.pick()

        def release() -> None:
            self._picker.release(channel)

        try:
            call = self._stubs[channel].ClassifyStream(requests)
        except BaseException as error:
            release()
            if isinstance(error, ValueError):
                self._check_open()
            raise
        if not call.add_callback(release):
            release()
        return call

    def _sleep(self, seconds: float) -> None:
        self._closed.wait(seconds)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosedError("the client is closed")


def _requests(
    builder: RequestBuilder, images: Iterable[ImageInput]
) -> Iterator[classification_pb2.ClassifyRequest | ClientError]:
    for image in images:
        try:
            request: classification_pb2.ClassifyRequest | ClientError = builder.build(image)
        except ClientError as error:
            request = error
        yield request
