"""Inference requests against the model they are for: what is wrong with them, and what the answer is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.kserve.bytes_tensor import raw_content
from repserve_server.protocols.kserve.metadata import IMAGE, inputs_of
from repserve_server.protocols.kserve.tensors import OutputTensor, RegionSlice, RequestedOutput

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.dataplane.dataplane import Scored
    from repserve_server.dataplane.regions import Regions
    from repserve_server.protocols.kserve.documents import TensorMetadata
    from repserve_server.protocols.kserve.tensors import InferenceRequest, InputTensor


def check_input(request: InferenceRequest, info: ModelInfo) -> tuple[InputTensor, int]:
    """Return the request's input, and how many images it holds.

    Raises:
        InvalidRequestError: there is not exactly one input, or the model has none like it.
    """
    known = {tensor["name"]: tensor for tensor in inputs_of(info)}
    if len(request.inputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in request.inputs) or "none"
        raise InvalidRequestError(f"the request has inputs {names}; expected one, {_choice(known)}")
    (tensor,) = request.inputs
    expected = known.get(tensor.name)
    if expected is None:
        raise InvalidRequestError(f"model {info.name!r} has no input {tensor.name!r}; send {_choice(known)}")
    shape = list(tensor.shape)
    fits = len(shape) == len(expected["shape"]) and shape[1:] == expected["shape"][1:]
    if tensor.name == IMAGE and len(shape) == 1:
        fits = True
    if tensor.datatype != expected["datatype"] or not fits or shape[0] < 1:
        raise InvalidRequestError(
            f"input {tensor.name!r} is {tensor.datatype} {shape}; expected {_describe(expected)}"
            + (" or BYTES [n]" if tensor.name == IMAGE else "")
            + ", n at least 1"
        )
    return tensor, shape[0]


def check_output(request: InferenceRequest, info: ModelInfo) -> RequestedOutput:
    """Return the requested output.

    Raises:
        InvalidRequestError: the request names more than one, or one that the model does not have.
    """
    if not request.outputs:
        return RequestedOutput(info.output_name)
    for output in request.outputs:
        if output.name != info.output_name:
            raise InvalidRequestError(
                f"model {info.name!r} has no output {output.name!r}; its output is {info.output_name!r}"
            )
    if len(request.outputs) > 1:
        raise InvalidRequestError(f"the request names output {info.output_name!r} more than once; name it once")
    return request.outputs[0]


def make_output(requested: RequestedOutput, scored: Scored, regions: Regions) -> OutputTensor:
    """Make the output of an answer: scores, FP32 [images, classes], or best classes, BYTES [images, classification].

    Raises:
        RepServeError: the output cannot be written to the shared memory that the request names.
    """
    images = scored.images
    data: bytes | list[bytes]
    if requested.classification:
        datatype, columns = "BYTES", min(requested.classification, scored.model.classes)
        data = _best_classes(scored, columns)
    else:
        datatype, columns = "FP32", scored.model.classes
        data = np.stack([image.batch.scores[image.row] for image in images]).tobytes()
    place = requested.place
    if place is None:
        return OutputTensor(requested.name, datatype, (len(images), columns), data)
    content = raw_content(data)
    regions.write(place.region, place.offset, place.byte_size, content)
    written = RegionSlice(place.region, place.offset, len(content))
    return OutputTensor(requested.name, datatype, (len(images), columns), written)


def _best_classes(scored: Scored, count: int) -> list[bytes]:
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


def _choice(known: dict[str, TensorMetadata]) -> str:
    return " or ".join(_describe(tensor) for tensor in known.values())


def _describe(tensor: TensorMetadata) -> str:
    return f"{tensor['name']} {tensor['datatype']} [{', '.join(['n', *map(str, tensor['shape'][1:])])}]"
