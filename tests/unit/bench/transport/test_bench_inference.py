from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from repserve_bench.errors import LoadError
from repserve_bench.payloads import Content, InputSettings, InputTensor
from repserve_bench.transport.inference import ModelInferRequest, ModelInferResponse, infer_request, read_scores
from repserve_bench.transport.metadata import choose_input
from repserve_client.errors import InternalError


@dataclass
class Metadata:
    datatype: str
    shape: Sequence[int]
    name: str = "x"


@pytest.mark.parametrize(
    ("entry", "tensor", "side"),
    [
        (Metadata("FP32", [-1, 3, 224, 224]), InputTensor("x", "FP32", channels_first=True), 224),
        (Metadata("FP32", [-1, 3, -1, -1]), InputTensor("x", "FP32", channels_first=True), 0),
        (Metadata("UINT8", [-1, 299, 299, 3]), InputTensor("x", "UINT8"), 299),
        (Metadata("FP32", [3, 64, 64]), InputTensor("x", "FP32", channels_first=True, batched=False), 64),
    ],
)
def test_pixels_go_to_an_input_of_images(entry: Metadata, tensor: InputTensor, side: int) -> None:
    assert choose_input([Metadata("INT64", [1]), entry], pixels=True) == (tensor, side)


@pytest.mark.parametrize("shape", [[-1], [-1, 1], [1]])
def test_files_go_to_an_input_of_bytes_in_as_many_dimensions_as_it_has(shape: list[int]) -> None:
    tensor, _ = choose_input([Metadata("BYTES", shape)], pixels=False)
    settings = InputSettings(model="m", tensor=tensor)
    request = ModelInferRequest.FromString(infer_request(Content(1, encoded=b"file"), settings))
    assert list(request.inputs[0].shape) == [1] * len(shape)
    assert request.raw_input_contents[0] == b"\x04\x00\x00\x00file"


def test_no_input_that_fits_is_an_error_that_lists_the_inputs() -> None:
    with pytest.raises(LoadError, match=r"pixels need UINT8 or FP32 images; it takes: x FP32 \[-1, 10\]"):
        choose_input([Metadata("FP32", [-1, 10])], pixels=True)


def answer(shape: list[int], datatype: str = "FP32", values: int | None = None) -> bytes:
    response = ModelInferResponse(model_name="m", model_version="3")
    response.outputs.add(name="scores", datatype=datatype, shape=shape)
    count = int(np.prod(shape)) if values is None else values
    response.raw_output_contents.append(np.arange(count, dtype=np.float32).tobytes())
    serialised: bytes = response.SerializeToString()
    return serialised


@pytest.mark.parametrize(("shape", "images"), [([2, 4], 2), ([2, 4, 1, 1], 2), ([4], 1), ([1, 4, 1], 1)])
def test_scores_are_ranked_for_each_image(shape: list[int], images: int) -> None:
    response = read_scores(answer(shape), top_k=2)
    assert [[one.index for one in prediction.classes] for prediction in response.predictions] == [[3, 2]] * images
    assert response.version == "3"


@pytest.mark.parametrize(
    "data",
    [
        answer([]),
        answer([0, 4]),
        answer([2, 0]),
        answer([-1, 4], values=4),
        answer([2, 4], values=7),
        answer([2, 2, 2]),
        answer([2, 4], datatype="FP64"),
        ModelInferResponse(model_name="m").SerializeToString(),
        b"\xff",
    ],
)
def test_an_answer_that_is_no_scores_is_a_failure_of_the_server(data: bytes) -> None:
    with pytest.raises((InternalError, DecodeError)):
        read_scores(data, top_k=5)
