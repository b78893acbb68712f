"""Bodies of KServe v2 over HTTP: JSON values, raw tensors behind the JSON, and what is wrong with others."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.errors import InferenceError, InvalidRequestError
from repserve_server.protocols.http.inference_messages import read_request, write_response
from repserve_server.protocols.kserve.bytes_tensor import join_elements
from repserve_server.protocols.kserve.tensors import (
    InferenceRequest,
    InferenceResponse,
    OutputTensor,
    RegionSlice,
    RequestedOutput,
)

Json = dict[str, Any]


def read(content: object, raw: bytes = b"", length: str | None = None) -> InferenceRequest:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    length = length if length is not None or not raw else str(len(text))
    return read_request(text + raw, length, "m", "")[0]


def tensor(data: object = None, **others: object) -> Json:
    entry: Json = {"name": "INPUT", "datatype": "UINT8", "shape": [2, 3], **others}
    return entry if data is None else {**entry, "data": data}


def content_of(request: InferenceRequest) -> bytes:
    data = request.inputs[0].data
    assert not isinstance(data, RegionSlice | list)
    return bytes(data)


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 255], [[1, 2, 3], [4, 5, 255]]])
def test_values_may_be_nested_or_flat(data: object) -> None:
    assert content_of(read({"inputs": [tensor(data)]})) == bytes([1, 2, 3, 4, 5, 255])


def test_floats_become_single_precision() -> None:
    request = read({"inputs": [tensor([0.1, 2, -3.5], datatype="FP32", shape=[3])]})
    assert np.frombuffer(content_of(request), np.float32).tolist() == np.array([0.1, 2, -3.5], np.float32).tolist()


def test_bytes_are_text_or_base64() -> None:
    image = b"\xff\xd8 an image"
    encoded = base64.b64encode(image).decode()
    one = tensor([encoded], datatype="BYTES", shape=[1], parameters={"content_type": "base64"})
    other = tensor([{"b64": encoded}], datatype="BYTES", shape=[1])
    text = tensor(["text"], datatype="BYTES", shape=[1])
    for entry, expected in ((one, image), (other, image), (text, b"text")):
        assert read({"inputs": [entry]}).inputs[0].data == [expected]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_raw_tensors_are_taken_in_order(contents: list[bytes]) -> None:
    entries = [
        tensor(name=f"t{i}", shape=[len(raw)], parameters={"binary_data_size": len(raw)})
        for i, raw in enumerate(contents)
    ]
    request = read({"inputs": entries}, b"".join(contents))
    assert [bytes(t.data) for t in request.inputs if not isinstance(t.data, RegionSlice | list)] == contents


def test_the_rest_of_a_request() -> None:
    place = {"shared_memory_region": "r", "shared_memory_offset": 3, "shared_memory_byte_size": 6}
    request, binary = read_request(
        json.dumps(
            {
                "id": "seven",
                "inputs": [tensor(parameters=place)],
                "outputs": [
                    {"name": "a", "parameters": {"classification": 2, "binary_data": True}},
                    {"name": "b", "parameters": place},
                ],
                "parameters": {"priority": 1, "timeout": 2000, "binary_data_output": False},
            }
        ).encode(),
        None,
        "m",
        "4",
    )
    assert (request.model, request.version, request.id) == ("m", "4", "seven")
    assert request.inputs[0].data == RegionSlice("r", 3, 6)
    assert request.outputs == (RequestedOutput("a", 2), RequestedOutput("b", 0, RegionSlice("r", 3, 6)))
    assert (request.parameters["priority"], request.parameters["timeout"]) == (1, 2000)
    assert binary == {"": False, "a": True}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "not as expected: Input should be an object"),
        ({}, "inputs: Field required"),
        ({"inputs": {}}, "inputs: Input should be a valid array"),
        ({"inputs": [3]}, "inputs.0: Input should be an object"),
        ({"inputs": [{"datatype": "UINT8", "shape": [1]}]}, "inputs.0.name: Field required"),
        ({"inputs": [tensor()]}, "input 'INPUT' has no data"),
        ({"inputs": [tensor([1, 2])]}, "has 2 values; shape [2, 3] needs 6"),
        ({"inputs": [tensor([1] * 6, shape=[2, "3"])]}, "inputs.0.shape.1: Input should be a valid integer"),
        ({"inputs": [tensor([256] * 6)]}, "expected whole numbers from 0 to 255"),
        ({"inputs": [tensor([-1] * 6)]}, "expected whole numbers from 0 to 255"),
        ({"inputs": [tensor([1.5] * 6)]}, "expected whole numbers from 0 to 255"),
        ({"inputs": [tensor([True] * 6)]}, "expected whole numbers from 0 to 255"),
        ({"inputs": [tensor(["1"] * 6)]}, "expected whole numbers from 0 to 255"),
        ({"inputs": [tensor([[1, 2], [3]])]}, "is ragged; nested arrays need equal lengths"),
        ({"inputs": [tensor([1] * 6, datatype="INT64")]}, "is INT64; expected BYTES, UINT8 or FP32"),
        ({"inputs": [tensor([3], datatype="BYTES", shape=[1])]}, "expected a string or"),
        ({"inputs": [tensor([{"b64": "%%"}], datatype="BYTES", shape=[1])]}, "is not base64"),
        ({"inputs": [tensor(parameters={"binary_data_size": 6})]}, "binary_data_size 6, but only 0 bytes are left"),
        ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, "'binary_data_size' is -1"),
        ({"inputs": [tensor(parameters={"binary_data_size": "6"})]}, "'binary_data_size' is '6'"),
        ({"inputs": [], "parameters": []}, ""),
        ({"inputs": [], "parameters": None, "outputs": None, "id": 7}, ""),
        ({"inputs": [], "outputs": [{"parameters": {}}]}, "outputs.0.name: Field required"),
        ({"inputs": [], "outputs": [{"name": "a", "parameters": {"classification": 1.5}}]}, "'classification' is 1.5"),
    ],
)
def test_a_wrong_body_is_told_what_is_wrong(content: object, words: str) -> None:
    if words == "":
        assert read(content).inputs == ()
        return
    with pytest.raises(InvalidRequestError) as caught:
        read(content)
    assert words in caught.value.message


@pytest.mark.parametrize("length", ["-1", "x", "", "999", "1e3", " 4"])
def test_the_length_of_the_json_is_a_number_of_bytes_of_the_body(length: str) -> None:
    with pytest.raises(InvalidRequestError, match="Inference-Header-Content-Length is"):
        read({"inputs": []}, length=length)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="4 bytes follow the last tensor"):
        read({"inputs": [tensor(parameters={"binary_data_size": 6})]}, bytes(10))


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5), st.integers(0, 250).map(str)))
def test_any_body_is_read_or_refused(body: bytes, length: str | None) -> None:
    try:
        read_request(body, length, "m", "")
    except InvalidRequestError:
        return
    json.loads(body[: int(length)] if length is not None else body)


def answer(*outputs: OutputTensor) -> InferenceResponse:
    return InferenceResponse("m", "1", "seven", outputs)


SCORES = OutputTensor("s", "FP32", (1, 3), np.array([0.1, 1e-30, -2], np.float32).tobytes())
CLASSES = OutputTensor("c", "BYTES", (1, 2), [b"1.0:0:zero", "0.5:1:äöü".encode()])


def test_an_answer_in_json_has_every_bit_of_the_scores() -> None:
    body, length = write_response(answer(SCORES, CLASSES), {"": False})
    assert length is None
    content = json.loads(body)
    assert (content["model_name"], content["model_version"], content["id"]) == ("m", "1", "seven")
    assert np.array(content["outputs"][0]["data"], np.float32).tobytes() == SCORES.data
    assert content["outputs"][1]["data"] == ["1.0:0:zero", "0.5:1:äöü"]


def test_raw_outputs_follow_the_json() -> None:
    body, length = write_response(answer(SCORES, CLASSES), {"": True, "c": False})
    assert length is not None
    content = json.loads(body[:length])
    assert content["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert body[length:] == SCORES.data
    assert "data" in content["outputs"][1]
    body, length = write_response(answer(CLASSES), {"": True})
    assert body[length:] == join_elements([b"1.0:0:zero", "0.5:1:äöü".encode()])


def test_an_output_in_shared_memory_says_where() -> None:
    body, _ = write_response(answer(OutputTensor("s", "FP32", (1, 3), RegionSlice("r", 4, 12))), {"": False})
    assert json.loads(body)["outputs"][0]["parameters"] == {
        "shared_memory_region": "r",
        "shared_memory_offset": 4,
        "shared_memory_byte_size": 12,
    }


def test_scores_that_json_does_not_have_are_refused_and_fit_raw() -> None:
    output = OutputTensor("s", "FP32", (1, 1), np.array([np.nan], np.float32).tobytes())
    with pytest.raises(InferenceError, match="request the output with binary_data"):
        write_response(answer(output), {"": False})
    assert write_response(answer(output), {"": True})[0].endswith(np.array([np.nan], np.float32).tobytes())
