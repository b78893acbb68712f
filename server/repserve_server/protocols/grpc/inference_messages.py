"""KServe v2 over gRPC: its messages read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import json_format

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.kserve.tensors import (
    BYTE_SIZE,
    OFFSET,
    REGION,
    Buffer,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    RegionSlice,
    WantedOutput,
    read_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from repserve_server.dataplane.statistics import Duration, ModelStatistics
    from repserve_server.protocols.kserve.metadata import ModelMetadata, TensorMetadata

CLASSIFICATION = "classification"
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


def read_request(message: pb.ModelInferRequest) -> InferenceRequest:
    """A request from its message; raw contents are not copied.

    Raises:
        InvalidRequestError: it has typed contents, or not one raw content for each input that needs one.
    """
    for name in _SEQUENCE:
        if _value(message.parameters, name):
            raise InvalidRequestError(f"the parameter {name!r} is for models that keep state; classification does not")
    contents = iter(message.raw_input_contents)
    inputs = tuple(_read_input(tensor, contents) for tensor in message.inputs)
    if next(contents, None) is not None:
        raise InvalidRequestError(
            f"the request has {len(message.raw_input_contents)} raw_input_contents for {len(inputs)} inputs; expected "
            "one for each input that is not in shared memory"
        )
    return InferenceRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=inputs,
        outputs=tuple(_read_output(output) for output in message.outputs),
        priority=_number(message.parameters, "priority"),
        timeout_microseconds=_number(message.parameters, "timeout"),
    )


def write_response(response: InferenceResponse) -> pb.ModelInferResponse:
    """The message of an answer."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for output in response.outputs:
        message.outputs.append(_write_output(output))
        message.raw_output_contents.append(b"" if isinstance(output.data, RegionSlice) else output.data)
    return message


def write_metadata(metadata: ModelMetadata) -> pb.ModelMetadataResponse:
    """A model's metadata."""
    return pb.ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=[_write_tensor(tensor) for tensor in metadata.inputs],
        outputs=[_write_tensor(tensor) for tensor in metadata.outputs],
    )


def write_config(config: dict[str, Any]) -> pb.ModelConfigResponse:
    """A model's configuration."""
    message = pb.ModelConfigResponse()
    json_format.ParseDict(config, message.config)
    return message


def write_statistics(entry: ModelStatistics) -> pb.ModelStatistics:
    """A model version's statistics."""
    return pb.ModelStatistics(
        name=entry.name,
        version=entry.version,
        last_inference=entry.last_inference,
        inference_count=entry.inferences,
        execution_count=sum(runs.count for runs in entry.batches.values()),
        inference_stats=pb.InferStatistics(
            success=_write_duration(entry.success),
            fail=_write_duration(entry.fail),
            queue=_write_duration(entry.queue),
            compute_input=_write_duration(entry.compute_input),
            compute_infer=_write_duration(entry.compute_infer),
            compute_output=_write_duration(entry.compute_output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=size, compute_infer=_write_duration(runs))
            for size, runs in sorted(entry.batches.items())
        ],
    )


def _read_input(tensor: pb.ModelInferRequest.InferInputTensor, contents: Iterator[bytes]) -> InputTensor:
    if tensor.HasField("contents"):
        raise InvalidRequestError(
            f"input {tensor.name!r} has typed contents; send its bytes in raw_input_contents, which every KServe v2 "
            "client library does"
        )
    data: Buffer | RegionSlice | None = _read_place(tensor.name, tensor.parameters)
    if data is None:
        data = next(contents, None)
    if data is None:
        raise InvalidRequestError(f"input {tensor.name!r} has no entry in raw_input_contents")
    return InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), data)


def _read_output(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> WantedOutput:
    place = _read_place(output.name, output.parameters)
    return WantedOutput(output.name, _number(output.parameters, CLASSIFICATION), place)


def _read_place(name: str, parameters: Mapping[str, pb.InferParameter]) -> RegionSlice | None:
    if REGION not in parameters:
        return None
    region = _value(parameters, REGION)
    if not isinstance(region, str):
        raise InvalidRequestError(f"{REGION} of {name!r} is {region!r}; it is the name of a region")
    return RegionSlice(region, _number(parameters, OFFSET), _number(parameters, BYTE_SIZE))


def _value(parameters: Mapping[str, pb.InferParameter], name: str) -> bool | int | float | str | None:
    if name not in parameters:
        return None
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value: bool | int | float | str | None = None if kind is None else getattr(parameter, kind)
    return value


def _number(parameters: Mapping[str, pb.InferParameter], name: str) -> int:
    value = _value(parameters, name)
    return 0 if value is None else read_number(name, value)


def _write_output(output: OutputTensor) -> pb.ModelInferResponse.InferOutputTensor:
    tensor = pb.ModelInferResponse.InferOutputTensor(name=output.name, datatype=output.datatype, shape=output.shape)
    if isinstance(output.data, RegionSlice):
        tensor.parameters[REGION].string_param = output.data.region
        tensor.parameters[BYTE_SIZE].int64_param = output.data.byte_size
        tensor.parameters[OFFSET].int64_param = output.data.offset
    return tensor


def _write_tensor(tensor: TensorMetadata) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)


def _write_duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.nanoseconds)
