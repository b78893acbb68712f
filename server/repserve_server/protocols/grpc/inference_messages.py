"""KServe v2 over gRPC: inference messages read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.kserve.bytes_tensor import raw_content
from repserve_server.protocols.kserve.parameters import read_output, read_region, write_region
from repserve_server.protocols.kserve.tensors import (
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    Parameters,
    RegionSlice,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def read_request(message: pb.ModelInferRequest) -> InferenceRequest:
    """Read a request; raw contents are not copied.

    Raises:
        InvalidRequestError: an input has typed contents, or there is not one raw content for each input that needs one.
    """
    contents = iter(message.raw_input_contents)
    inputs = tuple(_read_input(tensor, contents) for tensor in message.inputs)
    if next(contents, None) is not None:
        raise InvalidRequestError(
            f"the request has {len(message.raw_input_contents)} raw_input_contents for {len(inputs)} inputs; expected "
            "one for each input that is not in shared memory"
        )
    outputs = tuple(read_output(output.name, _read_parameters(output.parameters)) for output in message.outputs)
    parameters = _read_parameters(message.parameters)
    return InferenceRequest(message.model_name, message.model_version, message.id, inputs, outputs, parameters)


def write_response(response: InferenceResponse) -> pb.ModelInferResponse:
    """Write an answer; every output has an entry in raw_output_contents, empty where it is in shared memory."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for output in response.outputs:
        tensor = message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if isinstance(output.data, RegionSlice):
            for name, value in write_region(output.data).items():
                setattr(tensor.parameters[name], "string_param" if isinstance(value, str) else "int64_param", value)
            message.raw_output_contents.append(b"")
        else:
            message.raw_output_contents.append(raw_content(output.data))
    return message


def _read_input(tensor: pb.ModelInferRequest.InferInputTensor, contents: Iterator[bytes]) -> InputTensor:
    if tensor.HasField("contents"):
        raise InvalidRequestError(
            f"input {tensor.name!r} has typed contents; send its bytes in raw_input_contents, as KServe v2 client "
            "libraries do"
        )
    data = read_region(_read_parameters(tensor.parameters)) or next(contents, None)
    if data is None:
        raise InvalidRequestError(f"input {tensor.name!r} has no entry in raw_input_contents")
    return InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), data)


def _read_parameters(parameters: Mapping[str, pb.InferParameter]) -> Parameters:
    values: dict[str, object] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            values[name] = getattr(parameter, kind)
    return values
