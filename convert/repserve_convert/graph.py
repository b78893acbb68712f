"""The deployed RepVGG as an ONNX model: convolutions and ReLUs, a pool, a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper, numpy_helper

from repserve_convert.architecture import IMAGE_CHANNELS, IMAGE_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_convert.architecture import Variant
    from repserve_convert.reparameterise import Affine, DeployedWeights

INPUT_NAME = "actual_input_1"
OUTPUT_NAME = "output1"
OPSET = 11
"""The guide's; every version of atc and of the CPU runtimes reads it."""
IR_VERSION = 6
"""The file format of the first ONNX release with opset 11."""


def build_model(
    weights: DeployedWeights, variant: Variant, *, size: int = IMAGE_SIZE, description: str = ""
) -> onnx.ModelProto:
    """Build the ONNX model of a re-parameterised network.

    Args:
        weights: as made by ``reparameterise`` for the same variant.
        variant: the network.
        size: side of the square input in pixels.
        description: where the weights come from; kept in the model's doc string.

    Returns:
        A checked model: input ``actual_input_1`` float32 [batch, 3, size, size], output ``output1`` float32
        [batch, classes] (logits); the batch size is free. ``save_model`` writes equal models to equal bytes.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    value = INPUT_NAME
    for block in variant.blocks:
        inputs = _constants(constants, block.name, weights.convolutions[block.name])
        convolved, activated = f"{block.name}.conv", f"{block.name}.relu"
        nodes.append(
            helper.make_node(
                "Conv",
                [value, *inputs],
                [convolved],
                name=convolved,
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
                strides=[block.stride, block.stride],
            )
        )
        nodes.append(helper.make_node("Relu", [convolved], [activated], name=activated))
        value = activated
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pool"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pool"], ["features"], name="features", axis=1))
    inputs = _constants(constants, "linear", weights.linear)
    nodes.append(helper.make_node("Gemm", ["features", *inputs], [OUTPUT_NAME], name="linear", transB=1))

    graph = helper.make_graph(
        nodes,
        f"RepVGG-{variant.name}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", IMAGE_CHANNELS, size, size])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", weights.classes])],
        initializer=constants,
    )
    model = helper.make_model(
        graph,
        producer_name="repserve",
        doc_string=description,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _constants(constants: list[onnx.TensorProto], layer: str, values: Affine) -> list[str]:
    """Add a layer's weight and bias to the graph's constants and return their names."""
    names = [f"{layer}.weight", f"{layer}.bias"]
    constants.extend(numpy_helper.from_array(array, name) for array, name in zip(values, names, strict=True))
    return names


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, whole or not at all; folders are made where there are none.

    Args:
        model: what ``build_model`` returned.
        path: the file; one that is there is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.replace(path)
