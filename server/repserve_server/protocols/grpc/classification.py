"""The servicer of repserve.v1.Classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationServicer
from repserve_server.channel.messages import Priority
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.dataplane import Dataplane
from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.grpc.answer_stream import AnswerStream
from repserve_server.protocols.grpc.classification_messages import model_to_message, to_response
from repserve_server.protocols.grpc.context import Context, headers_of
from repserve_server.protocols.grpc.status import answered, to_rpc_status

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder, RequestRecord
    from repserve_server.errors import RepServeError


class ClassificationService(ClassificationServicer):
    """Unary and streamed classification, and the list of models."""

    def __init__(self, dataplane: Dataplane, recorder: Recorder, max_seconds: float) -> None:
        self._dataplane, self._recorder, self._max_seconds = dataplane, recorder, max_seconds

    @override
    @answered
    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        remaining = context.time_remaining()
        limit = self._max_seconds if remaining is None else min(remaining, self._max_seconds)
        with self._recorder.request("grpc", "Classify", lambda: headers_of(context), remaining) as record:
            return await self._classify(request, context.peer(), limit, record)

    @override
    async def ClassifyStream(  # type: ignore[override] # context.read and context.write cost less than iterators
        self, request_iterator: object, context: Context
    ) -> None:
        stream: AnswerStream[pb.ClassifyStreamRequest, pb.ClassifyStreamResponse] = AnswerStream(
            context, "ClassifyStream", self._recorder, self._dataplane.draining, respond=self._respond, fail=_fail
        )
        await stream.serve()

    @override
    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[model_to_message(info) for info in self._dataplane.models.infos])

    async def _respond(
        self, request: pb.ClassifyStreamRequest, client: str, record: RequestRecord
    ) -> pb.ClassifyStreamResponse:
        limit = self._max_seconds
        if request.timeout_milliseconds:
            limit = min(limit, request.timeout_milliseconds / 1000)
        response = await self._classify(request.request, client, limit, record)
        return pb.ClassifyStreamResponse(id=request.id, response=response)

    async def _classify(
        self, request: pb.ClassifyRequest, client: str, limit: float, record: RequestRecord
    ) -> pb.ClassifyResponse:
        served = record.find(self._dataplane.models, request.model, request.version)
        call = Call(record.started + limit, client, _priority(request))
        kind = request.WhichOneof("input")
        if kind == "encoded_image":
            work = self._dataplane.classify_encoded((request.encoded_image,), served, call)
        elif kind == "pixels":
            work = self._dataplane.classify_pixels(request.pixels.data, request.pixels.count, served, call)
        else:
            raise InvalidRequestError("the request has no input; set encoded_image or pixels")
        return to_response(record.answered(await work), request.top_k)


def _fail(request: pb.ClassifyStreamRequest, error: RepServeError) -> pb.ClassifyStreamResponse:
    return pb.ClassifyStreamResponse(id=request.id, status=to_rpc_status(error))


def _priority(request: pb.ClassifyRequest) -> Priority:
    """HIGH, or NORMAL for anything else, including what a newer client may send."""
    return Priority.HIGH if request.priority == pb.PRIORITY_HIGH else Priority.NORMAL
