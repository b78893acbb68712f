from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from repserve_convert.errors import ConversionError
from repserve_convert.onnx_input import OnnxInput, read_onnx_input
from support.onnx2om_harness import write_model

if TYPE_CHECKING:
    from pathlib import Path


def test_float_and_uint8_models_are_distinguished(tmp_path: Path) -> None:
    image = read_onnx_input(write_model(tmp_path / "a.onnx", name="images", side=96))
    assert image == OnnxInput("images", uint8=False, side=96)
    assert image.shape(8, 96) == (8, 3, 96, 96)
    pixels = read_onnx_input(write_model(tmp_path / "b.onnx", uint8=True))
    assert pixels == OnnxInput("actual_input_1", uint8=True, side=224)
    assert pixels.shape(-1, 224) == (-1, 224, 224, 3)


def test_the_side_may_be_open(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", shape=("n", 3, "height", "width"))
    assert read_onnx_input(path) == OnnxInput("actual_input_1", uint8=False, side=None)


@pytest.mark.parametrize(("batch", "fixed"), [("n", None), (0, None), (-1, None), (4, 4)])
def test_the_batch_is_free_or_fixed(tmp_path: Path, batch: str | int, fixed: int | None) -> None:
    assert read_onnx_input(write_model(tmp_path / "a.onnx", batch=batch)).batch == fixed


def test_weights_that_are_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "weight"))
    model.graph.input.insert(0, onnx.helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3]))
    onnx.save(model, path)
    assert read_onnx_input(path).name == "actual_input_1"


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (("n", 3, 224, 200), TensorProto.FLOAT, r"actual_input_1 is float \[n, 3, 224, 200\]"),
        (("n", 3, "height", 224), TensorProto.FLOAT, r"float \[n, 3, height, 224\]"),
        (("n", 224, 224, 3), TensorProto.FLOAT, r"float \[n, 224, 224, 3\]"),
        (("n", 3, 224, 224), TensorProto.UINT8, r"uint8 \[n, 3, 224, 224\]"),
        (("n", 3, 224, 224), TensorProto.FLOAT16, r"float16 \[n, 3, 224, 224\]"),
        (("n", 150528), TensorProto.FLOAT, r"float \[n, 150528\]"),
    ],
)
def test_other_inputs_are_refused_with_what_they_are(
    tmp_path: Path, shape: tuple[str | int, ...], dtype: int, message: str
) -> None:
    path = write_model(tmp_path / "a.onnx", shape=shape, dtype=dtype)
    with pytest.raises(ConversionError, match=rf"{message}; expected one input, float32 \[n, 3, side, side\]"):
        read_onnx_input(path)


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    onnx.save(model, path)
    with pytest.raises(ConversionError, match="has the inputs actual_input_1, more; expected one input"):
        read_onnx_input(path)


@pytest.mark.parametrize("content", [b"PK\3\4 not a model", b""])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"a\.onnx (is not an ONNX model|has the inputs none)"):
        read_onnx_input(path)
