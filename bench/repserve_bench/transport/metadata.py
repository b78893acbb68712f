"""The model behind a KServe v2 server, and which of its inputs the bench's images fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import grpc

from repserve_bench.errors import LoadError
from repserve_bench.payloads import InputTensor
from repserve_bench.served_model import version_order
from repserve_bench.transport.inference import SERVICE, ModelMetadataRequest, ModelMetadataResponse
from repserve_client.channels import channel_options
from repserve_client.errors import from_rpc_error
from repserve_client.results import ModelInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

METADATA_METHOD = f"/{SERVICE}/ModelMetadata"
TIMEOUT = 10.0
COLOURS = 3
IMAGE_DIMENSIONS = 3


class TensorMetadata(Protocol):
    """A tensor in the answer of ModelMetadata."""

    name: str
    datatype: str
    shape: Sequence[int]


def describe_model(address: str, name: str, version: str, *, pixels: bool) -> tuple[ModelInfo, InputTensor]:
    """Get a model's description from a server and choose the input that takes what is sent.

    Args:
        address: host:port of the server's gRPC.
        name: Name of the model.
        version: Version of it, or empty for the server's choice.
        pixels: Whether pixels are sent, or else encoded files.

    Raises:
        LoadError: The server does not answer, or the model takes no such input.
    """
    with grpc.insecure_channel(address, options=channel_options(address)) as channel:
        get_metadata = channel.unary_unary(
            METADATA_METHOD,
            request_serializer=ModelMetadataRequest.SerializeToString,
            response_deserializer=ModelMetadataResponse.FromString,
        )
        try:
            metadata = get_metadata(ModelMetadataRequest(name=name, version=version), timeout=TIMEOUT)
        except grpc.RpcError as error:
            reason = from_rpc_error(error)
            raise LoadError(f"the server at {address} does not describe the model {name!r} ({reason})") from error
    tensor, crop = choose_input(metadata.inputs, pixels=pixels)
    shape = list(metadata.outputs[0].shape) if metadata.outputs else []
    info = ModelInfo(
        name=metadata.name,
        version=version or max(metadata.versions, key=version_order, default=""),
        ready=True,
        reason="",
        crop=crop,
        classes=max(int(shape[-1]), 0) if shape else 0,
        instances=(),
    )
    return info, tensor


def choose_input(inputs: Sequence[TensorMetadata], *, pixels: bool) -> tuple[InputTensor, int]:
    """Return the input that fits and the side of the images it takes; 0 where files are sent or any side will do.

    Args:
        inputs: What ModelMetadata lists, each with name, datatype and shape.
        pixels: Whether pixels are sent, or else encoded files.

    Raises:
        LoadError: No input fits; the message lists them.
    """
    if not pixels:
        for candidate in inputs:
            if candidate.datatype == "BYTES":
                return InputTensor(candidate.name, "BYTES", dimensions=max(1, len(candidate.shape))), 0
    else:
        for datatype in ("UINT8", "FP32"):
            for candidate in inputs:
                fitted = _fit(candidate) if candidate.datatype == datatype else None
                if fitted is not None:
                    return fitted
    listed = "; ".join(f"{entry.name} {entry.datatype} {list(entry.shape)}" for entry in inputs) or "none"
    wanted = "pixels need UINT8 or FP32 images" if pixels else "encoded files need BYTES; for others use --input pixels"
    raise LoadError(f"no input of the model fits: {wanted}; it takes: {listed}")


def _fit(candidate: TensorMetadata) -> tuple[InputTensor, int] | None:
    shape = [int(size) for size in candidate.shape]
    batched = len(shape) == IMAGE_DIMENSIONS + 1
    image = shape[-IMAGE_DIMENSIONS:]
    if len(shape) not in {IMAGE_DIMENSIONS, IMAGE_DIMENSIONS + 1}:
        return None
    if image[2] == COLOURS and image[0] == image[1]:
        return InputTensor(candidate.name, candidate.datatype, batched=batched), max(0, image[0])
    if image[0] == COLOURS and image[1] == image[2]:
        return InputTensor(candidate.name, candidate.datatype, channels_first=True, batched=batched), max(0, image[1])
    return None
