"""The servicer of inference.GRPCInferenceService, KServe v2 over gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from typing_extensions import override

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.grpc.answer_stream import AnswerStream
from repserve_server.protocols.grpc.context import Context, headers_of
from repserve_server.protocols.grpc.inference_messages import read_request, write_response
from repserve_server.protocols.grpc.status import answered

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder, RequestRecord
    from repserve_server.errors import RepServeError
    from repserve_server.protocols.kserve.core import InferenceCore

_MARK_FINAL, _FINAL = "triton_enable_empty_final_response", "triton_final_response"
"""A client that expects several answers to a request sends the first, and knows the last answer by the second."""
_SETTING_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


class InferenceService(GRPCInferenceServiceServicer):
    """Converts messages; what they mean is the core's business."""

    def __init__(self, core: InferenceCore, draining: asyncio.Event, recorder: Recorder) -> None:
        self._core, self._draining, self._recorder = core, draining, recorder

    @override
    @answered
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        remaining = context.time_remaining()
        with self._recorder.request("grpc", "ModelInfer", lambda: headers_of(context), remaining) as record:
            return await self._infer(request, context.peer(), remaining, record)

    @override
    async def ModelStreamInfer(  # type: ignore[override] # context.read and context.write cost less than iterators
        self, request_iterator: object, context: Context
    ) -> None:
        stream: AnswerStream[pb.ModelInferRequest, pb.ModelStreamInferResponse] = AnswerStream(
            context, "ModelStreamInfer", self._recorder, self._draining, respond=self._respond, fail=_fail
        )
        await stream.serve()

    async def _respond(
        self, request: pb.ModelInferRequest, client: str, record: RequestRecord
    ) -> pb.ModelStreamInferResponse:
        response = await self._infer(request, client, None, record)
        return pb.ModelStreamInferResponse(infer_response=_mark_final(request, response))

    async def _infer(
        self, request: pb.ModelInferRequest, client: str, remaining: float | None, record: RequestRecord
    ) -> pb.ModelInferResponse:
        return write_response(await self._core.infer(read_request(request), client, remaining, record))

    @override
    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=self._core.live())

    @override
    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._core.ready())

    @override
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._core.model_ready(request.name, request.version))

    @override
    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**self._core.server_metadata())

    @override
    @answered
    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        return ParseDict({**self._core.model_metadata(request.name, request.version)}, pb.ModelMetadataResponse())

    @override
    @answered
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        config = self._core.model_config(request.name, request.version)
        return ParseDict({"config": config}, pb.ModelConfigResponse())

    @override
    @answered
    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        statistics = await self._core.statistics(request.name, request.version)
        return ParseDict({**statistics}, pb.ModelStatisticsResponse())

    @override
    @answered
    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        return ParseDict({"models": self._core.index(ready_only=request.ready)}, pb.RepositoryIndexResponse())

    @override
    @answered
    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        await self._core.load(request.model_name, request.parameters)
        return pb.RepositoryModelLoadResponse()

    @override
    @answered
    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        await self._core.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    @override
    @answered
    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        regions = {region["name"]: region for region in await self._core.regions(request.name)}
        return ParseDict({"regions": regions}, pb.SystemSharedMemoryStatusResponse())

    @override
    @answered
    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        await self._core.register_region(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    @override
    @answered
    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        await self._core.unregister_region(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    @override
    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        return pb.CudaSharedMemoryStatusResponse()

    @override
    @answered
    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        self._core.register_cuda_region()

    @override
    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        return pb.CudaSharedMemoryUnregisterResponse()

    @override
    @answered
    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        self._core.change_trace_settings([name for name, setting in request.settings.items() if setting.value])
        return pb.TraceSettingResponse()

    @override
    @answered
    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        settings = await self._core.log_settings({name: _read(name, one) for name, one in request.settings.items()})
        content = {name: {_SETTING_FIELDS[type(value)]: value} for name, value in settings.items()}
        return ParseDict({"settings": content}, pb.LogSettingsResponse())


def _read(name: str, setting: pb.LogSettingsRequest.SettingValue) -> object:
    kind = setting.WhichOneof("parameter_choice")
    if kind is None:
        raise InvalidRequestError(f"log setting {name!r} has no value; give it one")
    return getattr(setting, kind)


def _fail(request: pb.ModelInferRequest, error: RepServeError) -> pb.ModelStreamInferResponse:
    """Write the answer to a request that failed: which one it was, the kind of failure, and why."""
    response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
    message = f"[{error.status.name}] {error.message}"
    return pb.ModelStreamInferResponse(error_message=message, infer_response=_mark_final(request, response))


def _mark_final(request: pb.ModelInferRequest, response: pb.ModelInferResponse) -> pb.ModelInferResponse:
    """Mark an answer as the last one of its request, for a client that requests the mark."""
    if _MARK_FINAL in request.parameters and request.parameters[_MARK_FINAL].bool_param:
        response.parameters[_FINAL].bool_param = True
    return response
