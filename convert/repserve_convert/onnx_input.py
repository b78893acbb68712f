"""The input of an ONNX model, as far as its compilation needs it: name, layout and size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from repserve_convert.errors import ConversionError, require

_CHANNELS = 3
_DIMENSIONS = 4


@dataclass(frozen=True)
class OnnxInput:
    """The one input of a model that classifies square RGB images.

    Attributes:
        name: of the input.
        uint8: whether it takes uint8 NHWC pixels and normalises them itself; otherwise float32 NCHW.
        side: of the image, in pixels; None where the model leaves it open.
        batch: the batch size where it is fixed; None where it is free.
    """

    name: str
    uint8: bool
    side: int | None
    batch: int | None = None

    def shape(self, batch: int, side: int) -> tuple[int, int, int, int]:
        """Return the whole shape for a batch size and the side of the image."""
        if self.uint8:
            return (batch, side, side, _CHANNELS)
        return (batch, _CHANNELS, side, side)


def read_onnx_input(path: Path) -> OnnxInput:
    """Read the input of an ONNX file, without weights in other files.

    Raises:
        ConversionError: it is not an ONNX model, or does not take one batch of square RGB images.
    """
    onnx: Any = require("onnx")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise ConversionError(f"{path} is not an ONNX model: {error}") from error
    # Older exporters list the weights among the inputs.
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    expected = "one input, float32 [n, 3, side, side] or uint8 [n, side, side, 3]"
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ConversionError(f"{path} has the inputs {names}; expected {expected}")
    tensor = inputs[0].type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dimensions = [dimension.dim_value for dimension in tensor.shape.dim]
    axes = {"float": (1, 2, 3), "uint8": (3, 1, 2)}.get(dtype)
    if axes is not None and len(dimensions) == _DIMENSIONS:
        channels, height, width = (dimensions[axis] for axis in axes)
        if channels == _CHANNELS and height == width:
            # Zero, or less with some exporters: the dimension has a name instead of a number.
            batch, side = (size if size > 0 else None for size in (dimensions[0], height))
            return OnnxInput(inputs[0].name, dtype == "uint8", side, batch)
    shape = ", ".join(str(dimension.dim_value or dimension.dim_param or "?") for dimension in tensor.shape.dim)
    raise ConversionError(f"{path}: its input {inputs[0].name} is {dtype} [{shape}]; expected {expected}")
