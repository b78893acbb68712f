"""KServe v2 between its two wire formats and the dataplane: what a request means, and what its answer is made of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from repserve_server.channel.messages import Priority
from repserve_server.channel.requests import Region
from repserve_server.dataplane.administration import Administration
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.statistics import SAMPLES, ModelStatistics, model_statistics
from repserve_server.errors import InvalidRequestError, ModelNotFoundError
from repserve_server.protocols.kserve.bytes_tensor import join_elements, split_elements
from repserve_server.protocols.kserve.metadata import (
    IMAGE,
    PIXELS,
    ModelMetadata,
    TensorMetadata,
    configure,
    describe,
    inputs_of,
    output_of,
)
from repserve_server.protocols.kserve.tensors import (
    Buffer,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    RegionSlice,
    WantedOutput,
)

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
"""By the names of Triton's documentation of the protocol's extensions."""
NO_CUDA = "this server has no CUDA memory; use system shared memory, or send the tensors"
NO_TRACE = "this server has no trace settings to change"
HIGHEST_PRIORITY = 1
_BYTES_A_VALUE = {"UINT8": 1, "FP32": 4}
_INDEX_STATES: dict[ModelState, Literal["READY", "LOADING"]] = {"ready": "READY", "loading": "LOADING"}


@dataclass(frozen=True)
class ServerMetadata:
    """What ServerMetadata answers."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True)
class IndexEntry:
    """A version in the repository's index; ``reason`` says why it is not ready."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class InferenceCore:
    """Every method raises ``RepServeError`` when it cannot answer."""

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
        """Whether the server answers at all: it does until it has gone."""
        return True

    def ready(self) -> bool:
        """Whether the server takes requests."""
        return self._dataplane.models.server_ready and not self._dataplane.draining.is_set()

    def model_ready(self, model: str, version: str) -> bool:
        """Whether a version answers now; an unknown one does not, as in Triton."""
        if self._dataplane.draining.is_set():
            return False
        return any(
            info.ready and info.name == model and version in ("", info.version) for info in self._dataplane.models.infos
        )

    def server_metadata(self) -> ServerMetadata:
        """The server's name, version, and the extensions of the protocol that it speaks."""
        return ServerMetadata("repserve", version("repserve"), EXTENSIONS)

    def model_metadata(self, model: str, version: str) -> ModelMetadata:
        """The tensors of a version that answers."""
        info = self._dataplane.models.find(model, version).info
        versions = {other.version for other in self._dataplane.models.infos if other.name == info.name and other.ready}
        return describe(info, tuple(sorted(versions | {info.version}, key=int)))

    def model_config(self, model: str, version: str) -> dict[str, Any]:
        """A version's ModelConfig as a dictionary with the names of the .proto file."""
        return configure(self._dataplane.models.find(model, version), self._max_seconds)

    def models(self) -> list[ModelInfo]:
        """Every version of the repository, as the supervisor describes it."""
        return self._dataplane.models.infos

    def index(self, *, ready_only: bool) -> list[IndexEntry]:
        """Every version of the repository, those that are ready first."""
        entries = [
            IndexEntry(info.name, info.version, _INDEX_STATES.get(info.state, "UNAVAILABLE"), info.reason)
            for info in self._dataplane.models.infos
        ]
        chosen = [entry for entry in entries if entry.state == "READY" or not ready_only]
        return sorted(chosen, key=lambda entry: entry.state != "READY")

    async def statistics(self, model: str, version: str) -> list[ModelStatistics]:
        """What became of the requests of a version, of all versions of a model, or of all models (empty names)."""
        known = {(info.name, info.version) for info in self._dataplane.models.infos if info.version}
        figures = await self.administration.figures(SAMPLES)
        counted = {(entry.name, entry.version): entry for entry in model_statistics(figures.samples)}
        chosen = [
            counted.get(key) or ModelStatistics(*key)
            for key in sorted(known | set(counted), key=lambda key: (key[0], int(key[1])))
            if model in ("", key[0]) and version in ("", key[1])
        ]
        if not chosen and model:
            raise ModelNotFoundError(f"there are no statistics of model {model!r} {version}: it was never loaded")
        return chosen

    async def regions(self, name: str) -> list[Region]:
        """The shared-memory regions that are registered, or the one of a name."""
        regions = [region for region in await self.administration.regions() if name in ("", region.name)]
        if name and not regions:
            raise ModelNotFoundError(f"no shared memory region {name!r} is registered")
        return regions

    async def infer(
        self, request: InferenceRequest, client: str, remaining: float | None, record: RequestRecord
    ) -> InferenceResponse:
        """Classify the images of a request.

        Args:
            request: what to do.
            client: whom to be fair to.
            remaining: seconds until the protocol's own deadline; None where it has none.
            record: of the request.
        """
        limits = [self._max_seconds, *([] if remaining is None else [remaining])]
        if request.timeout_microseconds:
            limits.append(request.timeout_microseconds / 1e6)
        priority = Priority.HIGH if request.priority == HIGHEST_PRIORITY else Priority.NORMAL
        call = Call(self._clock() + min(limits), client, priority)
        served = record.find(self._dataplane.models, request.model, request.version)
        wanted = _check_outputs(request, served.info)
        tensor, images = _check_inputs(request, served.info)
        data = tensor.data
        if isinstance(data, RegionSlice):
            data = self._regions.read(data.region, data.offset, data.byte_size)
        scored = record.answered(await self._classify(tensor, data, images, served, call))
        outputs = tuple(self._make_output(output, scored) for output in wanted)
        return InferenceResponse(scored.model.name, scored.model.version, request.id, outputs)

    async def _classify(
        self, tensor: InputTensor, data: Buffer, images: int, served: ServedModel, call: Call
    ) -> Scored:
        if tensor.name == IMAGE:
            encoded = split_elements(tensor.name, data, images)
            return await self._dataplane.classify_encoded(encoded, served, call)
        size = math.prod(tensor.shape) * _BYTES_A_VALUE[tensor.datatype]
        if len(data) != size:
            raise InvalidRequestError(
                f"input {tensor.name!r} has {len(data)} bytes; {tensor.datatype} {list(tensor.shape)} are {size}"
            )
        if tensor.name == PIXELS:
            return await self._dataplane.classify_pixels(data, images, served, call)
        return await self._dataplane.classify_tensor(data, images, served, call)

    def _make_output(self, wanted: WantedOutput, scored: Scored) -> OutputTensor:
        images = scored.images
        if wanted.classification:
            count = min(wanted.classification, scored.model.classes)
            data = join_elements(_classes(scored, count))
            datatype, shape = "BYTES", (len(images), count)
        else:
            data = np.stack([image.batch.scores[image.row] for image in images]).tobytes()
            datatype, shape = "FP32", (len(images), scored.model.classes)
        if wanted.place is None:
            return OutputTensor(wanted.name, datatype, shape, data)
        place = wanted.place
        self._regions.write(place.region, place.offset, place.byte_size, data)
        place = RegionSlice(place.region, place.offset, len(data))
        return OutputTensor(wanted.name, datatype, shape, place)


def _classes(scored: Scored, count: int) -> list[bytes]:
    """``value:index:label`` of each image's best classes, best first; the values are the model's own, as %f."""
    labels = scored.model.labels
    elements = []
    for image in scored.images:
        indices, _ = image.rank(count)
        scores = image.batch.scores[image.row]
        for index in indices:
            label = f":{labels[index]}" if labels else ""
            elements.append(f"{scores[index]:f}:{index}{label}".encode())
    return elements


def _check_outputs(request: InferenceRequest, info: ModelInfo) -> Sequence[WantedOutput]:
    name = output_of(info).name
    for output in request.outputs:
        if output.name != name:
            raise InvalidRequestError(f"model {info.name!r} has no output {output.name!r}; its output is {name!r}")
        if output.classification < 0:
            raise InvalidRequestError(f"classification is {output.classification}; it is a number of classes")
    if len(request.outputs) > 1:
        raise InvalidRequestError(f"the request asks for output {name!r} more than once")
    return request.outputs or (WantedOutput(name),)


def _check_inputs(request: InferenceRequest, info: ModelInfo) -> tuple[InputTensor, int]:
    """The request's input and how many images it holds."""
    known = {tensor.name: tensor for tensor in inputs_of(info)}
    choice = " or ".join(_describe(tensor) for tensor in known.values())
    if len(request.inputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in request.inputs) or "none"
        raise InvalidRequestError(f"a request to model {info.name!r} has one input, {choice}; this one has {names}")
    (tensor,) = request.inputs
    expected = known.get(tensor.name)
    if expected is None:
        raise InvalidRequestError(f"model {info.name!r} has no input {tensor.name!r}; send {choice}")
    shape = tensor.shape
    fits = len(shape) == len(expected.shape) and shape[1:] == expected.shape[1:]
    if tensor.name == IMAGE and len(shape) == 1:
        fits = True
    if tensor.datatype != expected.datatype or not fits or shape[0] < 1:
        raise InvalidRequestError(
            f"input {tensor.name!r} is {tensor.datatype} {list(shape)}; expected {_describe(expected)}"
            + (" or BYTES [n]" if tensor.name == IMAGE else "")
            + ", n at least 1"
        )
    return tensor, shape[0]


def _describe(tensor: TensorMetadata) -> str:
    return f"{tensor.name} {tensor.datatype} [{', '.join(['n', *map(str, tensor.shape[1:])])}]"
