"""What a KServe v2 client is told of a model: the tensors it takes and gives, and how it is served."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.dataplane.models import ServedModel

IMAGE, PIXELS = "IMAGE", "INPUT"
"""The inputs of every model: encoded images, and pixels that are cropped already."""
_CONFIG_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}
_FORMATS = {PIXELS: "FORMAT_NHWC", IMAGE: "FORMAT_NONE"}


@dataclass(frozen=True)
class TensorMetadata:
    """A tensor's name, its KServe datatype, and its shape, of which the first, the batch, is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelMetadata:
    """What ModelMetadata answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def inputs_of(info: ModelInfo) -> tuple[TensorMetadata, ...]:
    """The inputs, of which a request has one.

    ``inputs`` in model.toml may leave out one of the first two. The last one, the model's own float32 input, is there
    only where the frontends hand the model float32: a model that normalises on its device takes pixels, and they alone.
    """
    common = (
        TensorMetadata(IMAGE, "BYTES", (-1, 1)),
        TensorMetadata(PIXELS, "UINT8", (-1, *info.preprocessing.shape)),
    )
    own: tuple[TensorMetadata, ...] = ()
    if info.input.dtype == "float32":
        own = (TensorMetadata(tensor_name(info), "FP32", (-1, *info.input.shape)),)
    return (*(tensor for tensor in common if tensor.name in info.offered), *own)


def tensor_name(info: ModelInfo) -> str:
    """The name of the float32 input: the model's own, or that in brackets where it is one of the other two."""
    name = info.input.name
    return f"[{name}]" if name in (IMAGE, PIXELS) else name


def output_of(info: ModelInfo) -> TensorMetadata:
    """The output: the model's own, with its own name."""
    return TensorMetadata(info.output_name, "FP32", (-1, info.classes))


def describe(info: ModelInfo, versions: tuple[str, ...]) -> ModelMetadata:
    """A model's metadata; ``versions`` are those that are served."""
    return ModelMetadata(info.name, versions, platform_of(info), inputs_of(info), (output_of(info),))


def platform_of(info: ModelInfo) -> str:
    """What runs it, such as ``repserve_openvino``."""
    return "_".join(["repserve", *sorted({instance.backend for instance in info.instances})])


def configure(served: ServedModel, max_seconds: float) -> dict[str, Any]:
    """A model's ModelConfig, in the form of protobuf's JSON with the names of the .proto file.

    Args:
        served: the model and its queue.
        max_seconds: limit for requests that have no deadline.
    """
    info = served.info
    sizes = sorted({size for instance in info.instances for size in instance.batch_seconds})
    devices = Counter((instance.device, instance.backend) for instance in info.instances)
    inputs, output = inputs_of(info), output_of(info)
    return {
        "name": info.name,
        "platform": platform_of(info),
        "backend": "repserve",
        "version_policy": {"specific": {"versions": [int(info.version)]}},
        "max_batch_size": info.max_batch_size,
        "input": [
            {
                "name": tensor.name,
                "data_type": _CONFIG_TYPES[tensor.datatype],
                "format": _FORMATS.get(tensor.name, "FORMAT_NCHW"),
                "dims": list(tensor.shape[1:]),
                # A request has one of them.
                "optional": len(inputs) > 1,
            }
            for tensor in inputs
        ],
        "output": [
            {
                "name": output.name,
                "data_type": _CONFIG_TYPES[output.datatype],
                "dims": list(output.shape[1:]),
                "label_filename": "labels.txt" if info.labels else "",
            }
        ],
        "instance_group": [
            {"name": f"{device} ({backend})", "kind": "KIND_MODEL", "count": count}
            for (device, backend), count in devices.items()
        ],
        "dynamic_batching": {
            "preferred_batch_size": sizes,
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 2,
            "default_priority_level": 2,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(max_seconds * 1e6),
                "allow_timeout_override": True,
                "max_queue_size": served.queue.capacity,
            },
        },
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
        "parameters": {
            "resize": {"string_value": str(info.preprocessing.resize)},
            "crop": {"string_value": str(info.preprocessing.crop)},
        },
    }
