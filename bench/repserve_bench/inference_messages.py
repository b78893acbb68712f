"""The few messages of KServe v2 that a load needs, in a descriptor pool of their own.

tritonclient registers the same names in protobuf's default pool; in one of their own these can stand beside it.
Field numbers: github.com/kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto, and for
``raw_*_contents`` NVIDIA's grpc_service.proto, which has the same.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64, "bytes": _Field.TYPE_BYTES}
_MESSAGES: dict[str, tuple[tuple[int, str, str, bool], ...]] = {
    # number, name, type, repeated
    "ModelMetadataRequest": ((1, "name", "string", False), (2, "version", "string", False)),
    "TensorMetadata": ((1, "name", "string", False), (2, "datatype", "string", False), (3, "shape", "int64", True)),
    "ModelMetadataResponse": (
        (1, "name", "string", False),
        (2, "versions", "string", True),
        (3, "platform", "string", False),
        (4, "inputs", "TensorMetadata", True),
        (5, "outputs", "TensorMetadata", True),
    ),
    "InferTensor": ((1, "name", "string", False), (2, "datatype", "string", False), (3, "shape", "int64", True)),
    "ModelInferRequest": (
        (1, "model_name", "string", False),
        (2, "model_version", "string", False),
        (5, "inputs", "InferTensor", True),
        (7, "raw_input_contents", "bytes", True),
    ),
    "ModelInferResponse": (
        (1, "model_name", "string", False),
        (2, "model_version", "string", False),
        (5, "outputs", "InferTensor", True),
        (6, "raw_output_contents", "bytes", True),
    ),
}


def _make_pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="inference.proto", package=PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, name, kind, repeated in fields:
            field = described.field.add(
                name=name,
                number=number,
                label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL,
                type=_TYPES.get(kind, _Field.TYPE_MESSAGE),
            )
            if kind not in _TYPES:
                field.type_name = f".{PACKAGE}.{kind}"
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
