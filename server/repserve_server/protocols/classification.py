"""The servicer of repserve.v1.Classification."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc

from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationServicer
from repserve_server.dataplane.dataplane import Dataplane, Scored
from repserve_server.errors import DrainingError, InferenceError, InvalidRequestError, RepServeError
from repserve_server.protocols.conversion import model_to_message, to_response
from repserve_server.protocols.status import grpc_code, to_rpc_status, trailing_metadata

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import FrontendMetrics

logger = logging.getLogger(__name__)

STREAM_WINDOW = 1024
"""Requests of one stream that may be unanswered; the next is read when an answer has been taken by the client."""

_UNKNOWN_FAILURE = InferenceError("internal error; the server's log says why")

_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]

Context: TypeAlias = Any
"""grpc.aio.ServicerContext, which has no types that hold for both kinds of RPC."""


class ClassificationService(ClassificationServicer):
    """Unary and streamed classification, and the list of models."""

    def __init__(self, dataplane: Dataplane, metrics: FrontendMetrics, max_seconds: float) -> None:
        self._dataplane = dataplane
        self._max_seconds = max_seconds
        self._unary = metrics.for_method("Classify")
        self._streamed = metrics.for_method("ClassifyStream")

    async def Classify(  # noqa: N802 - the name of the RPC
        self, request: pb.ClassifyRequest, context: Context
    ) -> pb.ClassifyResponse:
        """One request, one answer."""
        started = time.monotonic()
        remaining = context.time_remaining()
        limit = self._max_seconds if remaining is None else min(remaining, self._max_seconds)
        try:
            response = to_response(await self._classify(request, started + limit), request.top_k)
        except RepServeError as error:
            self._unary.count(error.status.name, time.monotonic() - started)
            await _abort(context, error)
        except asyncio.CancelledError:
            self._unary.count("CANCELLED", time.monotonic() - started)
            raise
        except Exception:
            logger.exception("a request failed in a way the server does not know")
            self._unary.count("INTERNAL", time.monotonic() - started)
            await _abort(context, _UNKNOWN_FAILURE)
        self._unary.count("OK", time.monotonic() - started)
        return response

    async def ClassifyStream(  # type: ignore[override] # noqa: N802 - written with context.write, not yielded
        self,
        request_iterator: object,  # noqa: ARG002 - context.read costs less
        context: Context,
    ) -> None:
        """Many requests in flight; a failed one is answered with its own status."""
        answers = _StreamAnswers(self._dataplane.draining)
        reader = asyncio.create_task(self._read_stream(context, answers))
        try:
            while (answer := await answers.next()) is not None:
                await context.write(answer)
                answers.sent()
        finally:
            reader.cancel()
            answers.cancel()
        if reader.done() and not reader.cancelled() and (failure := reader.exception()) is not None:
            raise failure
        if answers.ended_by_drain:
            await _abort(context, DrainingError("the server is shutting down; continue on another one"))

    async def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """The models of the repository."""
        return pb.ListModelsResponse(models=[model_to_message(info) for info in self._dataplane.models.infos])

    async def _read_stream(self, context: Context, answers: _StreamAnswers) -> None:
        try:
            while (request := await context.read()) is not _END:
                await answers.begin()
                answers.add(asyncio.create_task(self._answer(request, answers)))
        finally:
            answers.end_of_requests()

    async def _answer(self, request: pb.ClassifyStreamRequest, answers: _StreamAnswers) -> None:
        started = time.monotonic()
        limit = self._max_seconds
        if request.timeout_milliseconds:
            limit = min(limit, request.timeout_milliseconds / 1000)
        code = "OK"
        try:
            response = to_response(await self._classify(request.request, started + limit), request.request.top_k)
            answer = pb.ClassifyStreamResponse(id=request.id, response=response)
        except RepServeError as error:
            code = error.status.name
            answer = pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(error))
        except Exception:
            logger.exception("a streamed request failed in a way the server does not know")
            code = "INTERNAL"
            answer = pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(_UNKNOWN_FAILURE))
        self._streamed.count(code, time.monotonic() - started)
        answers.put(answer)

    async def _classify(self, request: pb.ClassifyRequest, deadline: float) -> Scored:
        kind = request.WhichOneof("input")
        if kind == "encoded_image":
            return await self._dataplane.classify_encoded(
                request.encoded_image, request.model, request.version, deadline
            )
        if kind == "pixels":
            pixels = request.pixels
            return await self._dataplane.classify_pixels(
                pixels.data, pixels.count, request.model, request.version, deadline
            )
        raise InvalidRequestError("the request has no input: set encoded_image or pixels")


class _StreamAnswers:
    """The answers of one stream, in the order in which they are ready, and how many are still to come."""

    def __init__(self, draining: asyncio.Event) -> None:
        self._draining = draining
        self._ready: asyncio.Queue[pb.ClassifyStreamResponse | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent = 0
        self._all_read = False
        self._drain_watch = asyncio.create_task(self._watch_drain())
        self.ended_by_drain = False

    async def begin(self) -> None:
        """Wait until one more request may be taken."""
        while self._unsent >= STREAM_WINDOW:
            self._room.clear()
            await self._room.wait()
        self._unsent += 1

    def add(self, task: asyncio.Task[None]) -> None:
        """Keep the task that works on a request."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def put(self, answer: pb.ClassifyStreamResponse) -> None:
        """An answer is ready."""
        self._ready.put_nowait(answer)

    def sent(self) -> None:
        """The last answer given out by ``next`` has been sent."""
        self._unsent -= 1
        self._room.set()

    def end_of_requests(self) -> None:
        """The client sends no more."""
        self._all_read = True
        self._ready.put_nowait(None)

    async def next(self) -> pb.ClassifyStreamResponse | None:
        """The next answer, or None when the stream is over."""
        while True:
            if self._unsent == 0 and self._draining.is_set() and not self._all_read:
                self.ended_by_drain = True
                return None
            if self._unsent == 0 and self._all_read:
                return None
            answer = await self._ready.get()
            if answer is not None:
                return answer

    def cancel(self) -> None:
        """Stop all work for this stream."""
        self._drain_watch.cancel()
        for task in self._tasks:
            task.cancel()

    async def _watch_drain(self) -> None:
        await self._draining.wait()
        self._ready.put_nowait(None)


async def _abort(context: Context, error: RepServeError) -> NoReturn:
    await context.abort(grpc_code(error.status), error.message, trailing_metadata(error))
    raise AssertionError("abort always raises")
