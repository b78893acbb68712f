"""What each operation of KServe v2 does; both wires call it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, NoReturn

from repserve_server.channel.messages import Priority
from repserve_server.channel.requests import Region
from repserve_server.dataplane.administration import Administration
from repserve_server.dataplane.call import Call
from repserve_server.errors import InvalidRequestError, ModelNotFoundError, NotAllowedError
from repserve_server.protocols.kserve import documents
from repserve_server.protocols.kserve.bytes_tensor import raw_content, split_elements
from repserve_server.protocols.kserve.configuration import configure
from repserve_server.protocols.kserve.inference import check_input, check_output, make_output
from repserve_server.protocols.kserve.log_settings import read_level, write_settings
from repserve_server.protocols.kserve.metadata import IMAGE, PIXELS, describe_model
from repserve_server.protocols.kserve.parameters import read_number, refuse_sequences
from repserve_server.protocols.kserve.statistics import SAMPLES, empty_statistics, model_statistics
from repserve_server.protocols.kserve.tensors import InferenceRequest, InferenceResponse, InputTensor, RegionSlice

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo, ModelState
    from repserve_server.dataplane.dataplane import Dataplane, Scored
    from repserve_server.dataplane.models import ServedModel
    from repserve_server.dataplane.recorder import RequestRecord
    from repserve_server.dataplane.regions import Regions

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "system_shared_memory",
    "logging",
)
"""By their names in Triton's documentation."""
HIGHEST_PRIORITY = 1
_INDEX_STATES: dict[ModelState, documents.IndexState] = {"ready": "READY", "loading": "LOADING"}


class InferenceCore:
    """The operations. Each raises ``RepServeError`` when it cannot answer."""

    def __init__(
        self,
        dataplane: Dataplane,
        administration: Administration,
        regions: Regions,
        max_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.administration = administration
        self._dataplane = dataplane
        self._regions = regions
        self._max_seconds = max_seconds
        self._clock = clock

    def live(self) -> bool:
        """Return whether the server answers at all."""
        return True

    def ready(self) -> bool:
        """Return whether the server takes requests."""
        return self._dataplane.models.server_ready and not self._dataplane.draining.is_set()

    def model_ready(self, model: str, version: str) -> bool:
        """Return whether a version answers now; an unknown one does not, as in Triton."""
        if self._dataplane.draining.is_set():
            return False
        return any(info.ready and info.name == model and version in ("", info.version) for info in self.models())

    def models(self) -> list[ModelInfo]:
        """Return every version in the repository, as the supervisor describes it."""
        return self._dataplane.models.infos

    def server_metadata(self) -> documents.ServerMetadata:
        """Describe the server: its name and version, and the extensions of the protocol that it supports."""
        return {"name": "repserve", "version": version_of("repserve"), "extensions": [*EXTENSIONS]}

    def model_metadata(self, model: str, version: str) -> documents.ModelMetadata:
        """Describe the tensors of a version that is served."""
        info = self._dataplane.models.find(model, version).info
        ready = {other.version for other in self.models() if other.name == info.name and other.ready}
        return describe_model(info, ready | {info.version})

    def model_config(self, model: str, version: str) -> documents.Json:
        """Describe how a version is served."""
        return configure(self._dataplane.models.find(model, version), self._max_seconds)

    async def statistics(self, model: str, version: str) -> documents.Statistics:
        """Return the statistics of a version, of all versions of a model, or of all models (empty names)."""
        found = model_statistics((await self.administration.figures(SAMPLES)).samples)
        for info in self.models():
            if info.version:
                found.setdefault((info.name, info.version), empty_statistics(info.name, info.version))
        chosen = [
            found[key]
            for key in sorted(found, key=lambda key: (key[0], int(key[1])))
            if model in ("", key[0]) and version in ("", key[1])
        ]
        if not chosen and model:
            wanted = f"model {model!r} version {version}" if version else f"model {model!r}"
            raise ModelNotFoundError(f"there are no statistics of {wanted}: it was never loaded")
        return {"model_stats": chosen}

    def index(self, *, ready_only: bool) -> list[documents.IndexEntry]:
        """List every version in the repository, those that are ready first."""
        entries: list[documents.IndexEntry] = [
            {
                "name": info.name,
                "version": info.version,
                "state": _INDEX_STATES.get(info.state, "UNAVAILABLE"),
                "reason": info.reason,
            }
            for info in self.models()
            if info.ready or not ready_only
        ]
        return sorted(entries, key=lambda entry: entry["state"] != "READY")

    async def load(self, model: str, parameters: Collection[str]) -> None:
        """Load a model, or load it anew; returns once it answers."""
        if parameters:
            names = ", ".join(sorted(parameters))
            raise InvalidRequestError(
                f"loading takes no parameters, but the request has {names}; change the model's folder instead"
            )
        await self.administration.load(model)

    async def unload(self, model: str) -> None:
        """Unload a model; returns once its requests are answered."""
        await self.administration.unload(model)

    async def regions(self, name: str) -> list[documents.RegionStatus]:
        """List the registered shared-memory regions, or the one of that name."""
        regions = [region for region in await self.administration.regions() if name in ("", region.name)]
        if name and not regions:
            raise ModelNotFoundError(f"there is no shared-memory region {name!r}; register it first")
        return [
            {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}
            for region in regions
        ]

    async def register_region(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Register a part of a POSIX shared-memory object with the whole server."""
        await self.administration.register_region(Region(name, key, offset, byte_size))

    async def unregister_region(self, name: str) -> None:
        """Unregister a region, or all of them for the empty name."""
        await self.administration.unregister_region(name)

    def register_cuda_region(self) -> NoReturn:
        """Refuse: there is no CUDA memory."""
        raise NotAllowedError("this server has no CUDA memory; use system shared memory, or send the tensors")

    def change_trace_settings(self, settings: Collection[object]) -> None:
        """Refuse to change trace settings, of which there are none."""
        if settings:
            raise NotAllowedError("this server has no trace settings; start it with --otlp-endpoint to export traces")

    async def log_settings(self, changes: Mapping[str, object]) -> dict[str, documents.SettingValue]:
        """Change log settings of the whole server, and return all of them."""
        level = await self.administration.log_level()
        if changes:
            level = await self.administration.log_level(read_level(changes, level))
        return write_settings(level)

    async def infer(
        self, request: InferenceRequest, client: str, remaining: float | None, record: RequestRecord
    ) -> InferenceResponse:
        """Classify the images of a request.

        Args:
            request: the inputs, and the outputs to return.
            client: whom to be fair to.
            remaining: seconds until the wire's own deadline; None where it has none.
            record: of the request.
        """
        served = record.find(self._dataplane.models, request.model, request.version)
        refuse_sequences(request.parameters)
        timeout = read_number(request.parameters, "timeout") / 1e6
        limit = min(self._max_seconds, timeout or self._max_seconds)
        limit = limit if remaining is None else min(limit, remaining)
        urgent = read_number(request.parameters, "priority") == HIGHEST_PRIORITY
        call = Call(self._clock() + limit, client, Priority.HIGH if urgent else Priority.NORMAL)
        requested = check_output(request, served.info)
        tensor, images = check_input(request, served.info)
        scored = record.answered(await self._classify(tensor, images, served, call))
        output = make_output(requested, scored, self._regions)
        return InferenceResponse(scored.model.name, scored.model.version, request.id, (output,))

    async def _classify(self, tensor: InputTensor, images: int, served: ServedModel, call: Call) -> Scored:
        data = tensor.data
        if isinstance(data, RegionSlice):
            data = self._regions.read(data.region, data.offset, data.byte_size)
        if tensor.name == IMAGE:
            encoded = data if isinstance(data, list) else split_elements(tensor.name, data, images)
            return await self._dataplane.classify_encoded(encoded, served, call)
        classify = self._dataplane.classify_pixels if tensor.name == PIXELS else self._dataplane.classify_tensor
        return await classify(raw_content(data), images, served, call)
