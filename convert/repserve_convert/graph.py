"""RepVGG as an ONNX model: one convolution per block, or its branches; a pool, a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from repserve_convert.architecture import (
    DEPLOYED_PART,
    IMAGE_CHANNELS,
    IMAGE_SIZE,
    LINEAR_WEIGHT,
    WHITE,
    Block,
    Variant,
)
from repserve_convert.errors import ConversionError
from repserve_convert.reparameterise import EPSILON, State
from repserve_server.files import written_whole
from repserve_server.imaging.preprocessing import Preprocessing

INPUT_NAME = "actual_input_1"
OUTPUT_NAME = "output1"
OPSET = 11
"""The guide's; every version of atc and of the CPU runtimes supports it."""


class Layers:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        name: str,
        output: str | None = None,
        **attributes: Any,  # noqa: ANN401 - what onnx takes
    ) -> str:
        """Append a node of one output, and return the output's name, by default the node's."""
        output = output or name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, array: NDArray[np.float32]) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def affine(self, layer: str, weights: State, source: str) -> list[str]:
        """Add the weight and the bias that are called ``source`` in the weights, and return their names."""
        return [self.constant(f"{layer}.{part}", weights[f"{source}.{part}"]) for part in ("weight", "bias")]

    def convolution(self, inputs: Sequence[str], name: str, block: Block, size: int) -> str:
        """Append a convolution of a block: 3x3 with a border of zeros, or 1x1 without."""
        return self.add(
            "Conv",
            inputs,
            name,
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=[block.stride, block.stride],
            group=block.groups,
        )


def check_opset(opset: int) -> None:
    """Check that models of this opset can be written.

    Raises:
        ConversionError: it is older than the guide's, or newer than the installed onnx.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise ConversionError(
            f"opset {opset} cannot be written: expected {OPSET}, which is the guide's, to {newest}, "
            f"the newest that the installed onnx {onnx.__version__} knows"
        )


def build_model(
    weights: State,
    variant: Variant,
    *,
    opset: int = OPSET,
    pixels: Preprocessing | None = None,
    size: int = IMAGE_SIZE,
    description: str = "",
) -> onnx.ModelProto:
    """Build the ONNX model of a network.

    Args:
        weights: arrays by their names in the reference implementation: as made by ``reparameterise``; or those of
            training, to keep the branches of the blocks.
        variant: the network.
        opset: version of the operators, 11 or newer.
        pixels: how the model normalises pixels; None for a model of normalised images.
        size: side of the square input in pixels.
        description: where the weights come from; kept in the model's doc string.

    Returns:
        A checked model: input ``actual_input_1`` float32 [batch, 3, size, size], or uint8 [batch, size, size, 3] in
        RGB order with ``pixels``; output ``output1`` float32 [batch, classes] (logits); the batch size is free.
        ``save_model`` writes equal models to equal bytes.

    Raises:
        ConversionError: see ``check_opset``.
    """
    check_opset(opset)
    layers = Layers()
    value = INPUT_NAME if pixels is None else _normalise(layers, pixels)
    for block in variant.blocks:
        deployed = f"{block.name}.{DEPLOYED_PART}"
        if f"{deployed}.weight" in weights:
            inputs = [value, *layers.affine(block.name, weights, deployed)]
            total = layers.convolution(inputs, f"{block.name}.conv", block, 3)
        else:
            total = _branches(layers, value, block, weights)
        value = layers.add("Relu", [total], f"{block.name}.relu")
    value = layers.add("GlobalAveragePool", [value], "pool")
    value = layers.add("Flatten", [value], "features", axis=1)
    layers.add("Gemm", [value, *layers.affine("linear", weights, "linear")], "linear", OUTPUT_NAME, transB=1)

    sides = [IMAGE_CHANNELS, size, size] if pixels is None else [size, size, IMAGE_CHANNELS]
    element = TensorProto.FLOAT if pixels is None else TensorProto.UINT8
    graph = helper.make_graph(
        layers.nodes,
        f"RepVGG-{variant.name}",
        [helper.make_tensor_value_info(INPUT_NAME, element, ["batch", *sides])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", weights[LINEAR_WEIGHT].shape[0]])],
        initializer=layers.constants,
    )
    operators = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph,
        producer_name="repserve",
        doc_string=description,
        # The oldest file format that has the opset: the more readers know it.
        ir_version=helper.find_min_ir_version_for(operators),
        opset_imports=operators,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _normalise(layers: Layers, preprocessing: Preprocessing) -> str:
    """Add the layers from uint8 pixels, channels last, to (pixel / 255 - mean) / std, channels first.

    It is not folded into the first convolution, whose border of zeros belongs to the normalised image: zeros around the
    pixels would be another border.
    """
    mean, std = (
        np.array(values, np.float64).reshape(IMAGE_CHANNELS, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    value = layers.add("Cast", [INPUT_NAME], "pixels.float", to=TensorProto.FLOAT)
    value = layers.add("Transpose", [value], "pixels.planes", perm=[0, 3, 1, 2])
    shift = layers.constant("pixels.mean", (WHITE * mean).astype(np.float32))
    value = layers.add("Sub", [value, shift], "pixels.centred")
    scale = layers.constant("pixels.scale", (1 / (WHITE * std)).astype(np.float32))
    return layers.add("Mul", [value, scale], "pixels.normalised")


def _branches(layers: Layers, value: str, block: Block, state: Mapping[str, NDArray[np.float32]]) -> str:
    """Add a block's branches and their sum, under the names of the state dict."""

    def batch_norm(source: str, layer: str) -> str:
        parameters = [f"{layer}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
        inputs = [source, *(layers.constant(name, state[name]) for name in parameters)]
        return layers.add("BatchNormalization", inputs, layer, epsilon=EPSILON)

    def branch(layer: str, size: int) -> str:
        kernel = layers.constant(f"{layer}.conv.weight", state[f"{layer}.conv.weight"])
        return batch_norm(layers.convolution([value, kernel], f"{layer}.conv", block, size), f"{layer}.bn")

    outputs = [branch(f"{block.name}.rbr_dense", 3), branch(f"{block.name}.rbr_1x1", 1)]
    total = layers.add("Add", outputs, f"{block.name}.add")
    if block.has_identity:
        identity = batch_norm(value, f"{block.name}.rbr_identity")
        total = layers.add("Add", [total, identity], f"{block.name}.add_identity")
    return total


def save_model(model: onnx.ModelProto, path: Path, verify: Callable[[Path], None] | None = None) -> None:
    """Write a model, whole or not at all; folders are made where there are none.

    Args:
        model: what ``build_model`` returned.
        path: the file; one that is there is replaced.
        verify: called with the written file while it has a temporary name. If it raises an exception, the file is
            removed, and what was at ``path`` stays.
    """
    with written_whole(path) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
        if verify is not None:
            verify(partial)
