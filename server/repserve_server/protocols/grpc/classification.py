"""The servicer of repserve.v1.Classification."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationServicer
from repserve_server.channel.messages import Priority
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Dataplane, Scored
from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.accounting import finish
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.answer_stream import AnswerStream, serve_stream
from repserve_server.protocols.grpc.calls import Context, begin_span, counted
from repserve_server.protocols.grpc.classification_messages import model_to_message, to_response
from repserve_server.protocols.grpc.status import to_rpc_status

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import FrontendMetrics
    from repserve_server.dataplane.tracing import RequestSpan, Tracing

_Answers: TypeAlias = AnswerStream[pb.ClassifyStreamResponse]


class ClassificationService(ClassificationServicer):
    """Unary and streamed classification, and the list of models."""

    def __init__(
        self, dataplane: Dataplane, metrics: FrontendMetrics, max_seconds: float, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing
        self._dataplane = dataplane
        self._max_seconds = max_seconds
        self._unary = metrics.for_method("Classify")
        self._streamed = metrics.for_method("ClassifyStream")

    async def Classify(  # noqa: N802 - the name of the RPC
        self, request: pb.ClassifyRequest, context: Context
    ) -> pb.ClassifyResponse:
        """One request, one answer."""
        remaining = context.time_remaining()
        span = begin_span(self._tracing, self._unary.method, context)
        work = self._respond(request, context.peer(), remaining, span)
        return await counted(self._unary, context, work, remaining, span)

    async def ClassifyStream(  # type: ignore[override] # noqa: N802 - written with context.write, not yielded
        self,
        request_iterator: object,  # noqa: ARG002 - context.read costs less
        context: Context,
    ) -> None:
        """Many requests in flight; a failed one is answered with its own status."""
        await serve_stream(context, self._dataplane.draining, self._answer)

    async def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """The models of the repository."""
        return pb.ListModelsResponse(models=[model_to_message(info) for info in self._dataplane.models.infos])

    async def _answer(self, request: pb.ClassifyStreamRequest, client: str, answers: _Answers) -> None:
        started = time.monotonic()
        limit = self._max_seconds
        if request.timeout_milliseconds:
            limit = min(limit, request.timeout_milliseconds / 1000)
        code, rejection = "CANCELLED", ""
        span = self._tracing.begin(self._streamed.method, answers.headers) if self._tracing else None
        try:
            call = Call(started + limit, client, _priority(request.request), span)
            scored = await self._classify(request.request, call)
            response = to_response(scored, request.request.top_k)
            answer = pb.ClassifyStreamResponse(id=request.id, response=response)
            code = "OK"
        except Exception as error:  # noqa: BLE001 - reported
            failure = report(error, self._streamed.method, lambda: answers.headers, str(request.id))
            code, rejection = failure.status.name, failure.rejection
            answer = pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(failure))
        finally:
            finish(self._streamed, span, code, started, rejection)
        await answers.send(answer)

    async def _respond(
        self, request: pb.ClassifyRequest, client: str, remaining: float | None, span: RequestSpan | None
    ) -> pb.ClassifyResponse:
        limit = self._max_seconds if remaining is None else min(remaining, self._max_seconds)
        scored = await self._classify(request, Call(time.monotonic() + limit, client, _priority(request), span))
        return to_response(scored, request.top_k)

    async def _classify(self, request: pb.ClassifyRequest, call: Call) -> Scored:
        served = self._dataplane.models.find(request.model, request.version)
        kind = request.WhichOneof("input")
        if kind == "encoded_image":
            return await self._dataplane.classify_encoded((request.encoded_image,), served, call)
        if kind == "pixels":
            return await self._dataplane.classify_pixels(request.pixels.data, request.pixels.count, served, call)
        raise InvalidRequestError("the request has no input: set encoded_image or pixels")


def _priority(request: pb.ClassifyRequest) -> Priority:
    """Anything but HIGH, also what a newer client may say, is NORMAL."""
    return Priority.HIGH if request.priority == pb.PRIORITY_HIGH else Priority.NORMAL
