"""KServe v2 over HTTP: an inference's body read and written, JSON with raw tensors behind it."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from repserve_server.errors import InferenceError, InvalidRequestError
from repserve_server.protocols.kserve.bytes_tensor import join_elements, split_elements
from repserve_server.protocols.kserve.tensors import (
    BYTE_SIZE,
    OFFSET,
    REGION,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    RegionSlice,
    WantedOutput,
    read_number,
)

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON; the raw tensors follow."""
_DTYPES = {"UINT8": "uint8", "FP32": "float32"}
_UINT8_MAX = 255

JsonObject = Mapping[str, Any]


def read_request(
    body: bytes, header_length: str | None, model: str, version: str
) -> tuple[InferenceRequest, Mapping[str, bool]]:
    """A request from the body of a POST.

    Args:
        body: JSON, or JSON and raw tensors.
        header_length: the header HEADER_LENGTH, if there is one.
        model: from the path.
        version: from the path; empty for the newest.

    Returns:
        The request, and by the name of an output whether it is wanted raw; the empty name is for all others.

    Raises:
        InvalidRequestError: the body is not what the protocol says.
    """
    view = memoryview(body)
    length = _read_length(header_length, len(view))
    content = _read_json(bytes(view[:length]) if length < len(view) else body)
    raw = _RawTensors(view[length:])
    inputs = tuple(_read_input(_object(tensor, "an input"), raw) for tensor in _list(content, "inputs"))
    raw.check_end()
    parameters = _parameters(content)
    wanted: list[WantedOutput] = []
    binary = {"": bool(parameters.get("binary_data_output", False))}
    for output in content.get("outputs") or ():
        entry = _object(output, "an output")
        name = _text(entry, "name")
        asked = _parameters(entry)
        wanted.append(WantedOutput(name, _number(asked, "classification"), _read_place(asked)))
        if "binary_data" in asked:
            binary[name] = bool(asked["binary_data"])
    request = InferenceRequest(
        model=model,
        version=version,
        id=str(content.get("id", "")),
        inputs=inputs,
        outputs=tuple(wanted),
        priority=_number(parameters, "priority"),
        timeout_microseconds=_number(parameters, "timeout"),
    )
    return request, binary


def write_response(response: InferenceResponse, binary: Mapping[str, bool]) -> tuple[bytes, int | None]:
    """The body of an answer, and how much of it is JSON; None when all of it is.

    Raises:
        InferenceError: a score is no finite number, which JSON does not have.
    """
    raw: list[bytes] = []
    outputs = []
    for output in response.outputs:
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if isinstance(output.data, RegionSlice):
            place = output.data
            entry["parameters"] = {REGION: place.region, BYTE_SIZE: place.byte_size, OFFSET: place.offset}
        elif binary.get(output.name, binary[""]):
            entry["parameters"] = {"binary_data_size": len(output.data)}
            raw.append(output.data)
        else:
            entry["data"] = _to_values(output, output.data)
        outputs.append(entry)
    content: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        content["id"] = response.id
    try:
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise InferenceError(
            "the model's scores are not all finite numbers, and JSON has no others; ask for the output with binary_data"
        ) from error
    return (b"".join((text, *raw)), len(text)) if raw else (text, None)


class _RawTensors:
    """What follows the JSON, taken piece by piece."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._place = 0

    def take(self, name: str, size: int) -> memoryview:
        end = self._place + size
        if end > len(self._content):
            left = len(self._content) - self._place
            raise InvalidRequestError(f"input {name!r} has binary_data_size {size}, and {left} bytes are left")
        piece = self._content[self._place : end]
        self._place = end
        return piece

    def check_end(self) -> None:
        left = len(self._content) - self._place
        if left:
            raise InvalidRequestError(f"{left} bytes follow the tensors; each input's binary_data_size says its own")


def _read_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not header.isdecimal() or int(header) > size:
        raise InvalidRequestError(
            f"{HEADER_LENGTH} is {header!r}; it is the number of bytes of JSON, of the {size} that the body has"
        )
    return int(header)


def _read_json(text: bytes) -> JsonObject:
    try:
        return _object(json.loads(text), "the request")
    except (UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request is not JSON: {error}") from error
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            f"the request is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; raw tensors need the "
            f"header {HEADER_LENGTH}"
        ) from error


def _read_input(entry: JsonObject, raw: _RawTensors) -> InputTensor:
    name, datatype = _text(entry, "name"), _text(entry, "datatype")
    shape = tuple(_dimension(name, side) for side in _list(entry, "shape"))
    parameters = _parameters(entry)
    data: memoryview | bytes | RegionSlice | None = _read_place(parameters)
    if data is None and "binary_data_size" in parameters:
        data = raw.take(name, _number(parameters, "binary_data_size"))
    if data is None:
        if "data" not in entry:
            raise InvalidRequestError(f"input {name!r} has no data: give data, binary_data_size, or {REGION}")
        data = _from_values(name, datatype, shape, entry["data"], str(parameters.get("content_type", "")))
    return InputTensor(name, datatype, shape, data)


def _from_values(name: str, datatype: str, shape: Sequence[int], values: object, content_type: str) -> bytes:
    """JSON values, nested or flat, as raw content."""
    if datatype == "BYTES":
        elements = [_element(name, value, content_type) for value in _flatten(values)]
        _check_count(name, len(elements), shape)
        return join_elements(elements)
    if datatype not in _DTYPES:
        raise InvalidRequestError(f"input {name!r} is {datatype}; expected BYTES, UINT8 or FP32")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidRequestError(f"the data of input {name!r} are not numbers of one shape") from error
    kinds = "iu" if datatype == "UINT8" else "iuf"
    if array.dtype.kind not in kinds or (datatype == "UINT8" and array.size and not _fits_uint8(array)):
        what = "whole numbers from 0 to 255" if datatype == "UINT8" else "numbers"
        raise InvalidRequestError(f"the data of input {name!r} are not {what}")
    _check_count(name, array.size, shape)
    return array.astype(_DTYPES[datatype]).tobytes()


def _fits_uint8(array: np.ndarray[Any, Any]) -> bool:
    return bool(array.min() >= 0 and array.max() <= _UINT8_MAX)


def _flatten(values: object) -> Iterator[object]:
    if isinstance(values, list):
        for value in values:
            yield from _flatten(value)
    else:
        yield values


def _element(name: str, value: object, content_type: str) -> bytes:
    """One element of a BYTES tensor: text, or base64 where the input or the element says so."""
    encoded = value.get("b64") if isinstance(value, dict) else value if content_type == "base64" else None
    try:
        if isinstance(encoded, str):
            return base64.b64decode(encoded, validate=True)
        if isinstance(value, str):
            return value.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"an element of input {name!r} is not base64: {error}") from error
    raise InvalidRequestError(f'an element of input {name!r} is neither a string nor {{"b64": "..."}}')


def _check_count(name: str, count: int, shape: Sequence[int]) -> None:
    if count != math.prod(shape):
        raise InvalidRequestError(f"input {name!r} has {count} values, which are not of shape {list(shape)}")


def _to_values(output: OutputTensor, data: bytes) -> list[Any]:
    if output.datatype == "BYTES":
        elements = split_elements(output.name, data, math.prod(output.shape))
        return [element.decode("utf-8", "replace") for element in elements]
    values: list[Any] = np.frombuffer(data, _DTYPES[output.datatype]).tolist()
    return values


def _read_place(parameters: JsonObject) -> RegionSlice | None:
    if REGION not in parameters:
        return None
    return RegionSlice(_text(parameters, REGION), _number(parameters, OFFSET), _number(parameters, BYTE_SIZE))


def _parameters(entry: JsonObject) -> JsonObject:
    return _object(entry.get("parameters") or {}, "parameters")


def _object(value: object, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise InvalidRequestError(f"{what} is {type(value).__name__}; it is a JSON object")
    return value


def _list(entry: JsonObject, key: str) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list):
        raise InvalidRequestError(f"{key!r} is missing or no JSON array")
    return value


def _text(entry: JsonObject, key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{key!r} is missing or no string")
    return value


def _dimension(name: str, side: object) -> int:
    if not isinstance(side, int) or isinstance(side, bool):
        raise InvalidRequestError(f"the shape of input {name!r} has {side!r}; its sides are whole numbers")
    return side


def _number(parameters: JsonObject, key: str) -> int:
    return read_number(key, parameters.get(key, 0))
