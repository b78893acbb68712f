"""A scriptable in-process server of ``repserve.v1``, for tests of what talks to one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from repserve_protos.v1 import classification_pb2, classification_pb2_grpc

if TYPE_CHECKING:
    from types import TracebackType

Script = Callable[[classification_pb2.ClassifyRequest], classification_pb2.ClassifyResponse]

_WAIT = 30.0


class Refusal(Exception):  # noqa: N818 - an outcome a script asks for
    """Raised by a script to answer with a status: of the RPC when unary, of the item on a stream."""

    def __init__(self, code: grpc.StatusCode, message: str = "refused", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = Status(code=code.value[0], message=message)
        if retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(round(retry_after * 1e9))
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=delay))
            self.status.details.append(detail)


class StreamBreak(Refusal):
    """Raised by a script to end the whole stream with a status, whatever is still unanswered on it."""


def default_answer(request: classification_pb2.ClassifyRequest) -> classification_pb2.ClassifyResponse:
    """Class ``length of the input % 10`` at 0.9; for pixels one such prediction an image."""
    count = request.pixels.count if request.HasField("pixels") else 1
    size = len(request.pixels.data) // max(count, 1) if request.HasField("pixels") else len(request.encoded_image)
    index = size % 10
    prediction = classification_pb2.Prediction(
        classes=[classification_pb2.RankedClass(index=index, label=str(index), probability=0.9)],
        batch_size=count,
        queue_microseconds=100,
        compute_microseconds=2000,
    )
    return classification_pb2.ClassifyResponse(
        model=request.model or "fake",
        version=request.version or "1",
        predictions=[prediction] * count,
        decode_microseconds=500,
    )


class FakeServer(classification_pb2_grpc.ClassificationServicer):
    """Serves on a free port of 127.0.0.1 between ``with`` and its end.

    ``script`` answers each request, unary or streamed. It runs in its own thread for each request, so one
    that waits for an event holds up its own answer only; it may raise `Refusal` or `StreamBreak`. It can be
    replaced at any time.
    """

    def __init__(self, script: Script = default_answer, *, port: int = 0) -> None:
        self.script = script
        self.models = [
            classification_pb2.Model(
                name="fake",
                version="1",
                ready=True,
                crop=224,
                resize=256,
                max_batch_size=16,
                classes=10,
                instances=[
                    classification_pb2.Instance(
                        device="cpu",
                        backend="fake",
                        precision="f32",
                        batch_costs=[classification_pb2.BatchCost(batch_size=1, microseconds=2000)],
                    )
                ],
            )
        ]
        self.unary_requests: list[classification_pb2.ClassifyRequest] = []
        self.stream_requests: list[classification_pb2.ClassifyStreamRequest] = []
        self.streams = 0
        """Streams opened so far."""
        self.peers: set[str] = set()
        """Addresses of the connections that requests came over."""
        self.stream_ended = threading.Event()
        """Set when a stream has ended, by either side."""
        self._changed = threading.Condition()
        self._port = port
        self._cleanup = ExitStack()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._items = self._cleanup.enter_context(ThreadPoolExecutor(64, "fake-item"))
        handlers = self._cleanup.enter_context(ThreadPoolExecutor(64, "fake-rpc"))
        server = grpc.server(
            handlers,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)],
        )
        classification_pb2_grpc.add_ClassificationServicer_to_server(self, server)
        self._port = server.add_insecure_port(self.address)
        server.start()
        self._cleanup.callback(lambda: server.stop(grace=None).wait(_WAIT))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def wait_for(self, condition: Callable[[FakeServer], bool], timeout: float = _WAIT) -> bool:
        """Waits until ``condition`` holds of the recorded requests; false when it did not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    def Classify(  # noqa: N802 - gRPC's name
        self, request: classification_pb2.ClassifyRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassifyResponse:
        with self._changed:
            self.unary_requests.append(request)
            self.peers.add(context.peer())
            self._changed.notify_all()
        try:
            return self.script(request)
        except Refusal as refusal:
            _abort(context, refusal)
            raise

    def ClassifyStream(  # noqa: N802 - gRPC's name
        self,
        request_iterator: Iterator[classification_pb2.ClassifyStreamRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[classification_pb2.ClassifyStreamResponse]:
        with self._changed:
            self.streams += 1
            self.peers.add(context.peer())
            self._changed.notify_all()
        answers: queue.SimpleQueue[classification_pb2.ClassifyStreamResponse | StreamBreak | None] = queue.SimpleQueue()
        if not context.add_callback(lambda: self._end(answers)):
            self._end(answers)
        reader = threading.Thread(target=self._read, args=(request_iterator, answers), daemon=True)
        reader.start()
        while (answer := answers.get(timeout=_WAIT)) is not None:
            if isinstance(answer, StreamBreak):
                _abort(context, answer)
            else:
                yield answer

    def ListModels(  # noqa: N802 - gRPC's name
        self,
        request: classification_pb2.ListModelsRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> classification_pb2.ListModelsResponse:
        return classification_pb2.ListModelsResponse(models=self.models)

    def _read(
        self,
        requests: Iterator[classification_pb2.ClassifyStreamRequest],
        answers: queue.SimpleQueue[classification_pb2.ClassifyStreamResponse | StreamBreak | None],
    ) -> None:
        pending = []
        try:
            for request in requests:
                with self._changed:
                    self.stream_requests.append(request)
                    self._changed.notify_all()
                pending.append(self._items.submit(self._answer, request, answers))
        except (grpc.RpcError, Exception):  # noqa: BLE001 - gRPC raises a bare Exception when the RPC is over
            return
        for item in pending:
            item.result(_WAIT)
        answers.put(None)

    def _answer(
        self,
        request: classification_pb2.ClassifyStreamRequest,
        answers: queue.SimpleQueue[classification_pb2.ClassifyStreamResponse | StreamBreak | None],
    ) -> None:
        try:
            answers.put(classification_pb2.ClassifyStreamResponse(id=request.id, response=self.script(request.request)))
        except StreamBreak as stream_break:
            answers.put(stream_break)
        except Refusal as refusal:
            answers.put(classification_pb2.ClassifyStreamResponse(id=request.id, status=refusal.status))

    def _end(self, answers: queue.SimpleQueue[classification_pb2.ClassifyStreamResponse | StreamBreak | None]) -> None:
        answers.put(None)
        self.stream_ended.set()


def _abort(context: grpc.ServicerContext, refusal: Refusal) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", refusal.status.SerializeToString()),))
    context.abort(refusal.code, refusal.status.message)
