"""The servicer of inference.GRPCInferenceService: inference, unary and streamed, on top of what else is asked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeAlias

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_server.protocols.accounting import finish
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.answer_stream import AnswerStream, serve_stream
from repserve_server.protocols.grpc.calls import Context, begin_span, counted
from repserve_server.protocols.grpc.inference_messages import read_request, write_response
from repserve_server.protocols.grpc.inference_queries import InferenceQueries

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import FrontendMetrics
    from repserve_server.dataplane.tracing import RequestSpan, Tracing
    from repserve_server.errors import RepServeError
    from repserve_server.protocols.kserve.core import InferenceCore

_MARK_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""A client that counts several answers to a request asks for the first, and finds the last by the second."""
_Answers: TypeAlias = AnswerStream[pb.ModelStreamInferResponse]


class InferenceService(InferenceQueries):
    """Converts messages; what they mean is the core's business. The methods' names are those of the RPCs."""

    def __init__(
        self, core: InferenceCore, draining: asyncio.Event, metrics: FrontendMetrics, tracing: Tracing | None = None
    ) -> None:
        super().__init__(core)
        self._tracing = tracing
        self._draining = draining
        self._unary = metrics.for_method("ModelInfer")
        self._streamed = metrics.for_method("ModelStreamInfer")

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """One request, one answer."""
        remaining = context.time_remaining()
        span = begin_span(self._tracing, self._unary.method, context)
        work = self._infer(request, context.peer(), remaining, span)
        return await counted(self._unary, context, work, remaining, span, own=request.id)

    async def ModelStreamInfer(  # type: ignore[override] # written with context.write, not yielded
        self, request_iterator: object, context: Context
    ) -> None:
        """Many requests in flight; a failed one is answered with its own error message."""
        await serve_stream(context, self._draining, self._answer)

    async def _answer(self, request: pb.ModelInferRequest, client: str, answers: _Answers) -> None:
        started = time.monotonic()
        code, rejection = "CANCELLED", ""
        span = self._tracing.begin(self._streamed.method, answers.headers) if self._tracing else None
        try:
            answer = pb.ModelStreamInferResponse(infer_response=await self._infer(request, client, None, span))
            code = "OK"
        except Exception as error:  # noqa: BLE001 - reported
            failure = report(error, self._streamed.method, lambda: answers.headers, request.id)
            code, rejection = failure.status.name, failure.rejection
            answer = _fail(request, failure)
        finally:
            finish(self._streamed, span, code, started, rejection)
        if _MARK_FINAL in request.parameters and request.parameters[_MARK_FINAL].bool_param:
            answer.infer_response.parameters[_FINAL].bool_param = True
        await answers.send(answer)

    async def _infer(
        self, request: pb.ModelInferRequest, client: str, remaining: float | None, span: RequestSpan | None
    ) -> pb.ModelInferResponse:
        return write_response(await self._core.infer(read_request(request), client, remaining, span))


def _fail(request: pb.ModelInferRequest, error: RepServeError) -> pb.ModelStreamInferResponse:
    """The answer to a request that failed: what kind of failure, why, and which request it was."""
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    return pb.ModelStreamInferResponse(error_message=f"[{error.status.name}] {error.message}", infer_response=response)
