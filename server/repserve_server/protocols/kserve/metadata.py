"""A model's metadata: the tensors it takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_server.protocols.kserve.documents import ModelMetadata, TensorMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from repserve_server.channel.model_info import ModelInfo

IMAGE, PIXELS = "IMAGE", "INPUT"
"""The inputs of every model: encoded images, and pixels that are already cropped."""


def inputs_of(info: ModelInfo) -> list[TensorMetadata]:
    """Describe the inputs, of which a request has one.

    ``inputs`` in model.toml may leave out one of the first two. The last one, the model's own float32 input, is
    offered only where the model takes float32 from the frontends: one that normalises on its device takes pixels only.
    """
    tensors: list[TensorMetadata] = [
        {"name": IMAGE, "datatype": "BYTES", "shape": [-1, 1]},
        {"name": PIXELS, "datatype": "UINT8", "shape": [-1, *info.preprocessing.shape]},
    ]
    offered = [tensor for tensor in tensors if tensor["name"] in info.offered]
    if info.input.dtype == "float32":
        offered.append({"name": _tensor_name(info), "datatype": "FP32", "shape": [-1, *info.input.shape]})
    return offered


def _tensor_name(info: ModelInfo) -> str:
    """Name the float32 input: the model's own name, or that in brackets where it is one of the other two."""
    name = info.input.name
    return f"[{name}]" if name in (IMAGE, PIXELS) else name


def output_of(info: ModelInfo) -> TensorMetadata:
    """Describe the output: the model's own, with its own name."""
    return {"name": info.output_name, "datatype": "FP32", "shape": [-1, info.classes]}


def describe_model(info: ModelInfo, versions: Iterable[str]) -> ModelMetadata:
    """Describe a model; ``versions`` are those that are served."""
    return {
        "name": info.name,
        "versions": sorted(versions, key=int),
        "platform": platform_of(info),
        "inputs": inputs_of(info),
        "outputs": [output_of(info)],
    }


def platform_of(info: ModelInfo) -> str:
    """Name what runs a model, such as ``repserve_openvino``."""
    return "_".join(["repserve", *sorted({instance.backend for instance in info.instances})])
