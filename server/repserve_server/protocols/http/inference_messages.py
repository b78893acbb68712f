"""KServe v2 over HTTP: the body of an inference read and written, JSON with raw tensors behind it."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, Field, JsonValue, StrictInt

from repserve_server.errors import InferenceError, InvalidRequestError
from repserve_server.protocols.http.body import JsonParameters, parse_json
from repserve_server.protocols.kserve.bytes_tensor import raw_content
from repserve_server.protocols.kserve.parameters import read_number, read_output, read_region, write_region
from repserve_server.protocols.kserve.tensors import (
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    RegionSlice,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_server.protocols.kserve.documents import Json

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; raw tensors follow."""
_DTYPES = {"UINT8": "uint8", "FP32": "float32"}
_UINT8_MAX = 255


class _Input(BaseModel):
    name: str
    datatype: str
    shape: list[StrictInt]
    parameters: JsonParameters = {}
    data: object = None


class _Output(BaseModel):
    name: str
    parameters: JsonParameters = {}


class _Request(BaseModel):
    id: Annotated[str, Field(coerce_numbers_to_str=True)] = ""
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    parameters: JsonParameters = {}


def read_request(
    body: bytes, header_length: str | None, model: str, version: str
) -> tuple[InferenceRequest, Mapping[str, bool]]:
    """Read a request from the body of a POST.

    Args:
        body: JSON, or JSON and raw tensors.
        header_length: the header HEADER_LENGTH, if there is one.
        model: from the path.
        version: from the path; empty for the newest.

    Returns:
        The request, and by the name of an output whether to return it raw; the empty name is for all others.

    Raises:
        InvalidRequestError: the body is not what the protocol says.
    """
    view = memoryview(body)
    length = _read_length(header_length, len(view))
    hint = "" if header_length else f"; if raw tensors follow the JSON, set the header {HEADER_LENGTH}"
    content = parse_json(bytes(view[:length]) if length < len(view) else body, _Request, hint)
    raw = _RawTensors(view[length:])
    inputs = tuple(_read_input(tensor, raw) for tensor in content.inputs)
    raw.check_end()
    wanted = content.outputs or []
    binary = {"": bool(content.parameters.get("binary_data_output", False))}
    binary |= {one.name: bool(one.parameters["binary_data"]) for one in wanted if "binary_data" in one.parameters}
    outputs = tuple(read_output(one.name, one.parameters) for one in wanted)
    return InferenceRequest(model, version, content.id, inputs, outputs, content.parameters), binary


def write_response(response: InferenceResponse, binary: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """Write the body of an answer; also return how many bytes of it are JSON, None for all.

    Raises:
        InferenceError: a score is not finite, which JSON cannot express.
    """
    raw: list[bytes] = []
    outputs: list[JsonValue] = []
    for output in response.outputs:
        entry: Json = {"name": output.name, "datatype": output.datatype, "shape": [*output.shape]}
        if isinstance(output.data, RegionSlice):
            entry["parameters"] = {**write_region(output.data)}
        elif binary.get(output.name, binary[""]):
            raw.append(raw_content(output.data))
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = _to_values(output.datatype, output.data)
        outputs.append(entry)
    content: Json = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        content["id"] = response.id
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise InferenceError(
            "the model's scores are not all finite, which JSON cannot express; request the output with binary_data"
        ) from error
    return (b"".join((text, *raw)), len(text)) if raw else (text, None)


class _RawTensors:
    """What follows the JSON, taken tensor by tensor."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._place = 0

    def take(self, name: str, size: int) -> memoryview:
        end = self._place + size
        if end > len(self._content):
            left = len(self._content) - self._place
            raise InvalidRequestError(f"input {name!r} has binary_data_size {size}, but only {left} bytes are left")
        piece = self._content[self._place : end]
        self._place = end
        return piece

    def check_end(self) -> None:
        left = len(self._content) - self._place
        if left:
            raise InvalidRequestError(f"{left} bytes follow the last tensor; check each input's binary_data_size")


def _read_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not header.isdecimal() or int(header) > size:
        raise InvalidRequestError(
            f"{HEADER_LENGTH} is {header!r}; expected the number of bytes of JSON, at most the body's {size}"
        )
    return int(header)


def _read_input(tensor: _Input, raw: _RawTensors) -> InputTensor:
    shape = tuple(tensor.shape)
    data: memoryview | bytes | list[bytes] | RegionSlice | None = read_region(tensor.parameters)
    if data is None and "binary_data_size" in tensor.parameters:
        data = raw.take(tensor.name, read_number(tensor.parameters, "binary_data_size"))
    if data is None:
        if tensor.data is None:
            raise InvalidRequestError(
                f"input {tensor.name!r} has no data; set data, binary_data_size or shared_memory_region"
            )
        data = _from_values(tensor, shape)
    return InputTensor(tensor.name, tensor.datatype, shape, data)


def _from_values(tensor: _Input, shape: Sequence[int]) -> bytes | list[bytes]:
    """JSON values, nested or flat, as raw content or as the elements of a BYTES tensor."""
    name, datatype = tensor.name, tensor.datatype
    if datatype == "BYTES":
        is_base64 = tensor.parameters.get("content_type") == "base64"
        elements = [_element(name, value, is_base64=is_base64) for value in _flatten(tensor.data)]
        _check_count(name, len(elements), shape)
        return elements
    if datatype not in _DTYPES:
        raise InvalidRequestError(f"input {name!r} is {datatype}; expected BYTES, UINT8 or FP32")
    try:
        array = np.asarray(tensor.data)
    except ValueError as error:
        raise InvalidRequestError(f"the data of input {name!r} is ragged; nested arrays need equal lengths") from error
    if array.dtype.kind not in "iuf" or (datatype == "UINT8" and not _fits_uint8(array)):
        what = "whole numbers from 0 to 255" if datatype == "UINT8" else "numbers"
        raise InvalidRequestError(f"the data of input {name!r} is wrong; expected {what}")
    _check_count(name, array.size, shape)
    return array.astype(_DTYPES[datatype]).tobytes()


def _fits_uint8(array: NDArray[np.generic]) -> bool:
    return array.dtype.kind in "iu" and (not array.size or bool(array.min() >= 0 and array.max() <= _UINT8_MAX))


def _flatten(values: object) -> Iterator[object]:
    if isinstance(values, list):
        for value in values:
            yield from _flatten(value)
    else:
        yield values


def _element(name: str, value: object, *, is_base64: bool) -> bytes:
    """Read an element of a BYTES tensor: text, or base64 where the input or the element is marked so."""
    encoded = value.get("b64") if isinstance(value, dict) else value if is_base64 else None
    try:
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
        if isinstance(value, str):
            return value.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"an element of input {name!r} is not base64: {error}") from error
    raise InvalidRequestError(f'an element of input {name!r} is wrong; expected a string or {{"b64": "..."}}')


def _check_count(name: str, count: int, shape: Sequence[int]) -> None:
    if count != math.prod(shape):
        raise InvalidRequestError(f"input {name!r} has {count} values; shape {list(shape)} needs {math.prod(shape)}")


def _to_values(datatype: str, data: bytes | list[bytes]) -> list[JsonValue]:
    if isinstance(data, list):
        return [element.decode("utf-8", "replace") for element in data]
    values: list[JsonValue] = np.frombuffer(data, _DTYPES[datatype]).tolist()
    return values
