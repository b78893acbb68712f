"""The servicer of inference.GRPCInferenceService: inference, unary and streamed, on top of what else is asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.answer_stream import AnswerStream, serve_stream
from repserve_server.protocols.grpc.calls import Context, answered, headers_of
from repserve_server.protocols.grpc.inference_messages import read_request, write_response
from repserve_server.protocols.grpc.inference_queries import InferenceQueries

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder, RequestRecord
    from repserve_server.errors import RepServeError
    from repserve_server.protocols.kserve.core import InferenceCore

_MARK_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""A client that counts several answers to a request asks for the first, and finds the last by the second."""
_Answers: TypeAlias = AnswerStream[pb.ModelStreamInferResponse]


class InferenceService(InferenceQueries):
    """Converts messages; what they mean is the core's business. The methods' names are those of the RPCs."""

    def __init__(self, core: InferenceCore, draining: asyncio.Event, recorder: Recorder) -> None:
        super().__init__(core)
        self._draining, self._recorder = draining, recorder

    @answered
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """One request, one answer."""
        remaining = context.time_remaining()
        with self._recorder.request("grpc", "ModelInfer", lambda: headers_of(context), remaining) as record:
            return await self._infer(request, context.peer(), remaining, record)

    async def ModelStreamInfer(  # type: ignore[override] # written with context.write, not yielded
        self, request_iterator: object, context: Context
    ) -> None:
        """Many requests in flight; a failed one is answered with its own error message."""
        await serve_stream(context, self._draining, self._answer)

    async def _answer(self, request: pb.ModelInferRequest, client: str, answers: _Answers) -> None:
        try:
            with self._recorder.request("grpc", "ModelStreamInfer", lambda: answers.headers) as record:
                answer = pb.ModelStreamInferResponse(infer_response=await self._infer(request, client, None, record))
        except Exception as error:  # noqa: BLE001 - reported
            answer = _fail(request, report(error, "ModelStreamInfer", lambda: answers.headers, request.id))
        if _MARK_FINAL in request.parameters and request.parameters[_MARK_FINAL].bool_param:
            answer.infer_response.parameters[_FINAL].bool_param = True
        await answers.send(answer)

    async def _infer(
        self, request: pb.ModelInferRequest, client: str, remaining: float | None, record: RequestRecord
    ) -> pb.ModelInferResponse:
        return write_response(await self._core.infer(read_request(request), client, remaining, record))


def _fail(request: pb.ModelInferRequest, error: RepServeError) -> pb.ModelStreamInferResponse:
    """The answer to a request that failed: what kind of failure, why, and which request it was."""
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    return pb.ModelStreamInferResponse(error_message=f"[{error.status.name}] {error.message}", infer_response=response)
