"""What KServe v2 asks besides inference: health, metadata, the repository, shared memory, log settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from repserve_server.channel.requests import Region
from repserve_server.errors import InvalidRequestError, NotAllowedError
from repserve_server.protocols.grpc.calls import Context, answered
from repserve_server.protocols.grpc.inference_messages import write_config, write_metadata, write_statistics
from repserve_server.protocols.kserve.core import NO_CUDA, NO_TRACE
from repserve_server.protocols.kserve.log_settings import SettingValue, read_level, write_settings

if TYPE_CHECKING:
    from repserve_server.protocols.kserve.core import InferenceCore

_SETTING_FIELDS = {bool: "bool_param", int: "uint32_param", str: "string_param"}


class InferenceQueries(GRPCInferenceServiceServicer):
    """Converts messages; what they mean is the core's business. The methods' names are those of the RPCs."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """Whether the server answers."""
        return pb.ServerLiveResponse(live=self._core.live())

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Whether the server takes requests."""
        return pb.ServerReadyResponse(ready=self._core.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether a model answers."""
        return pb.ModelReadyResponse(ready=self._core.model_ready(request.name, request.version))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """The server's name and what it speaks."""
        said = self._core.server_metadata()
        return pb.ServerMetadataResponse(name=said.name, version=said.version, extensions=said.extensions)

    @answered
    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """The tensors of a model."""
        return write_metadata(self._core.model_metadata(request.name, request.version))

    @answered
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """How a model is served."""
        return write_config(self._core.model_config(request.name, request.version))

    @answered
    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """What became of a model's requests."""
        entries = await self._core.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=[write_statistics(entry) for entry in entries])

    @answered
    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every version of the repository."""
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=entry.name, version=entry.version, state=entry.state, reason=entry.reason
                )
                for entry in self._core.index(ready_only=request.ready)
            ]
        )

    @answered
    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model from its folder."""
        if request.parameters:
            names = ", ".join(sorted(request.parameters))
            raise InvalidRequestError(f"a model is loaded as its folder is; it takes no parameters, and got {names}")
        await self._core.administration.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    @answered
    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model; it has no dependents, so the parameter about them changes nothing."""
        await self._core.administration.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    @answered
    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """The regions that are registered."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in await self._core.regions(request.name):
            response.regions[region.name].CopyFrom(
                pb.SystemSharedMemoryStatusResponse.RegionStatus(
                    name=region.name, key=region.key, offset=region.offset, byte_size=region.byte_size
                )
            )
        return response

    @answered
    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Make a region known to the whole server."""
        region = Region(request.name, request.key, request.offset, request.byte_size)
        await self._core.administration.register_region(region)
        return pb.SystemSharedMemoryRegisterResponse()

    @answered
    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget a region, or all of them."""
        await self._core.administration.unregister_region(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """None is registered."""
        return pb.CudaSharedMemoryStatusResponse()

    @answered
    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """None can be."""
        raise NotAllowedError(NO_CUDA)

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """None is left."""
        return pb.CudaSharedMemoryUnregisterResponse()

    @answered
    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Context) -> pb.TraceSettingResponse:
        """There are none."""
        if any(value.value for value in request.settings.values()):
            raise NotAllowedError(NO_TRACE)
        return pb.TraceSettingResponse()

    @answered
    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """From which level the server logs."""
        administration = self._core.administration
        level = await administration.log_level()
        if request.settings:
            asked = {name: _setting(name, value) for name, value in request.settings.items()}
            level = await administration.log_level(read_level(asked, level))
        response = pb.LogSettingsResponse()
        for name, value in write_settings(level).items():
            setattr(response.settings[name], _SETTING_FIELDS[type(value)], value)
        return response


def _setting(name: str, value: pb.LogSettingsRequest.SettingValue) -> SettingValue:
    kind = value.WhichOneof("parameter_choice")
    if kind is None:
        raise InvalidRequestError(f"the log setting {name!r} has no value")
    setting: SettingValue = getattr(value, kind)
    return setting
