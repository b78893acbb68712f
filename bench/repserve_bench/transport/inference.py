"""ModelInfer of KServe v2: what the bench sends to RepServe, to Triton and to others that speak it.

The generated stubs would register the names that tritonclient registers too, in the one pool of a process, and a user's
process may hold both: so the few messages are made here, in a pool of their own.
Field numbers: github.com/kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto, and for
``raw_*_contents`` NVIDIA's grpc_service.proto, which has the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from repserve_client.errors import InternalError
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_bench.payloads import Content, InputSettings

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

_MESSAGES = {
    "ModelMetadataRequest": "1 name string, 2 version string",
    "TensorMetadata": "1 name string, 2 datatype string, 3 shape int64*",
    "ModelMetadataResponse": "1 name string, 2 versions string*, 3 platform string, 4 inputs TensorMetadata*, "
    "5 outputs TensorMetadata*",
    "InferTensor": "1 name string, 2 datatype string, 3 shape int64*",
    "ModelInferRequest": "1 model_name string, 2 model_version string, 5 inputs InferTensor*, "
    "7 raw_input_contents bytes*",
    "ModelInferResponse": "1 model_name string, 2 model_version string, 5 outputs InferTensor*, "
    "6 raw_output_contents bytes*",
}
"""Number, name and type of each field; repeated ones have a star."""


def _make_pool() -> descriptor_pool.DescriptorPool:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package=PACKAGE, syntax="proto3")
    for message, listed in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, name, kind in (field.split() for field in listed.split(", ")):
            label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            field = described.field.add(name=name, number=int(number), label=label)
            if (kind := kind.rstrip("*")) in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _make_pool()


def _message(name: str) -> Any:  # noqa: ANN401 - a class made at run time
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ModelMetadataRequest = _message("ModelMetadataRequest")
ModelMetadataResponse = _message("ModelMetadataResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")

INFER_METHOD = f"/{SERVICE}/ModelInfer"
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
"""Of the RepVGG offline guide's normalisation, RGB, for pixels scaled to 0 to 1."""
WHITE = 255
SCORE_DIMENSIONS = 2
FLOAT_BYTES = 4


def infer_request(content: Content, settings: InputSettings) -> bytes:
    """Serialise a ModelInferRequest with raw contents for one request's images."""
    tensor = settings.tensor
    assert tensor is not None  # noqa: S101 - for the type checker: this transport comes with one
    request = ModelInferRequest(model_name=settings.model, model_version=settings.version)
    if tensor.datatype == "BYTES":
        shape: tuple[int, ...] = (content.count, *[1] * (tensor.dimensions - 1))
        raw = len(content.encoded).to_bytes(4, "little") + content.encoded
    else:
        side = settings.crop
        images: NDArray[np.generic] = np.frombuffer(content.pixels, np.uint8).reshape(content.count, side, side, 3)
        if tensor.datatype == "FP32":
            images = ((images.astype(np.float32) / WHITE) - MEAN) / STD
        if tensor.channels_first:
            images = images.transpose(0, 3, 1, 2)
        shape, raw = images.shape, np.ascontiguousarray(images).tobytes()
        if not tensor.batched:
            shape = shape[1:]
    request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
    request.raw_input_contents.append(raw)
    serialised: bytes = request.SerializeToString()
    return serialised


def read_scores(answer: bytes, top_k: int) -> pb.ClassifyResponse:
    """Rank the classes of a ModelInferResponse by their scores, as repserve.v1 would list them.

    The probabilities are the scores that the server sent, unchanged.

    Raises:
        InternalError: The answer does not begin with an FP32 tensor of scores in raw contents.
        DecodeError: It is no such message.
    """
    response = ModelInferResponse.FromString(answer)
    scores = _scores(response)
    classes = scores.shape[1]
    found = pb.ClassifyResponse(model=response.model_name, version=response.model_version)
    for row in scores:
        prediction = found.predictions.add()
        if top_k < classes:
            best = np.argpartition(row, -top_k)[-top_k:]
            best = best[np.argsort(-row[best], kind="stable")]
        else:
            best = np.argsort(-row, kind="stable")
        for index in best:
            prediction.classes.add(index=int(index), probability=float(row[index]))
    return found


def _scores(response: Any) -> NDArray[np.float32]:  # noqa: ANN401 - a class made at run time
    """Read float32 [images, classes]; dimensions of 1 behind the classes are left out."""
    listed = [f"{output.name} {output.datatype} {list(output.shape)}" for output in response.outputs]
    problem = InternalError(
        f"expected scores as FP32 [images, classes] in raw contents, the server sent: {', '.join(listed) or 'none'}"
    )
    if not response.outputs or not response.raw_output_contents or response.outputs[0].datatype != "FP32":
        raise problem
    shape = [int(size) for size in response.outputs[0].shape]
    while len(shape) > SCORE_DIMENSIONS and shape[-1] == 1:
        shape.pop()
    raw = response.raw_output_contents[0]
    if len(shape) not in {1, SCORE_DIMENSIONS} or min(shape) < 1 or len(raw) != FLOAT_BYTES * math.prod(shape):
        raise problem
    return np.frombuffer(raw, np.float32).reshape(-1, shape[-1])
