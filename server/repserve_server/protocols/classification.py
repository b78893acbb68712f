"""The servicer of repserve.v1.Classification."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeAlias

from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationServicer
from repserve_server.channel.messages import Priority
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Dataplane, Scored
from repserve_server.errors import InvalidRequestError, RepServeError
from repserve_server.protocols.answer_stream import AnswerStream, serve_stream
from repserve_server.protocols.calls import UNKNOWN_FAILURE, Context, counted
from repserve_server.protocols.conversion import model_to_message, to_response
from repserve_server.protocols.status import to_rpc_status

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import FrontendMetrics

logger = logging.getLogger(__name__)

_Answers: TypeAlias = AnswerStream[pb.ClassifyStreamResponse]


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
        remaining = context.time_remaining()
        return await counted(self._unary, context, self._respond(request, context.peer(), remaining), remaining)

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
        code = "OK"
        try:
            scored = await self._classify(request.request, Call(started + limit, client, _priority(request.request)))
            response = to_response(scored, request.request.top_k)
            answer = pb.ClassifyStreamResponse(id=request.id, response=response)
        except RepServeError as error:
            code = error.status.name
            answer = pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(error))
        except Exception:
            logger.exception("a streamed request failed in a way the server does not know")
            code = "INTERNAL"
            answer = pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(UNKNOWN_FAILURE))
        self._streamed.count(code, time.monotonic() - started)
        await answers.send(answer)

    async def _respond(self, request: pb.ClassifyRequest, client: str, remaining: float | None) -> pb.ClassifyResponse:
        limit = self._max_seconds if remaining is None else min(remaining, self._max_seconds)
        scored = await self._classify(request, Call(time.monotonic() + limit, client, _priority(request)))
        return to_response(scored, request.top_k)

    async def _classify(self, request: pb.ClassifyRequest, call: Call) -> Scored:
        kind = request.WhichOneof("input")
        if kind == "encoded_image":
            images = (request.encoded_image,)
            return await self._dataplane.classify_encoded(images, request.model, request.version, call)
        if kind == "pixels":
            pixels = request.pixels
            return await self._dataplane.classify_pixels(
                pixels.data, pixels.count, request.model, request.version, call
            )
        raise InvalidRequestError("the request has no input: set encoded_image or pixels")


def _priority(request: pb.ClassifyRequest) -> Priority:
    """Anything but HIGH, also what a newer client may say, is NORMAL."""
    return Priority.HIGH if request.priority == pb.PRIORITY_HIGH else Priority.NORMAL
