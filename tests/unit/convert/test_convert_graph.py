from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.graph import build_model, save_model
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import DeployedWeights, reparameterise

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TINY = Variant("tiny", (2, 1, 2, 1), (1 / 16, 1 / 16, 1 / 16, 1 / 32))
CLASSES = 7
SIZE = 40


@pytest.fixture(scope="module")
def weights() -> DeployedWeights:
    return reparameterise(random_state(TINY, CLASSES, seed=1), TINY)


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["output1"], {"actual_input_1": images})[0]
    return result


@pytest.mark.parametrize("batch", [1, 3])
def test_runtimes_agree_on_any_batch_size(weights: DeployedWeights, batch: int) -> None:
    model = build_model(weights, TINY, size=SIZE)
    images = np.random.default_rng(2).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)
    scores = run(model, images)
    assert scores.shape == (batch, CLASSES)
    (expected,) = ReferenceEvaluator(model).run(["output1"], {"actual_input_1": images})
    np.testing.assert_allclose(scores, np.asarray(expected), atol=1e-5)


def test_scores_follow_the_linear_layer(weights: DeployedWeights) -> None:
    """The Gemm is not transposed by mistake: with zero weights only the biases are left."""
    linear = weights.linear._replace(weight=np.zeros_like(weights.linear.weight))
    model = build_model(DeployedWeights(weights.convolutions, linear), TINY, size=SIZE)
    scores = run(model, np.ones((2, 3, SIZE, SIZE), np.float32))
    np.testing.assert_allclose(scores, np.stack([linear.bias] * 2))


def test_names_types_and_opset_are_the_guides(weights: DeployedWeights) -> None:
    model = build_model(weights, TINY, description="made for a test")
    assert model.opset_import[0].version == 11
    assert model.doc_string == "made for a test"
    (entry,), (leaving,) = model.graph.input, model.graph.output
    assert (entry.name, leaving.name) == ("actual_input_1", "output1")
    sizes = [dimension.dim_param or dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 224, 224]
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert {node.op_type for node in model.graph.node} == {
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
    assert sum(node.op_type == "Conv" for node in model.graph.node) == len(TINY.blocks)


def test_equal_weights_give_equal_files(weights: DeployedWeights, tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "1" / "model.onnx", tmp_path / "second.onnx"
    save_model(build_model(weights, TINY), first)
    again = reparameterise(random_state(TINY, CLASSES, seed=1), TINY)
    save_model(build_model(again, TINY), second)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["model.onnx"]
    other = reparameterise(random_state(TINY, CLASSES, seed=2), TINY)
    save_model(build_model(other, TINY), second)
    assert first.read_bytes() != second.read_bytes()


def test_random_a0_is_finite_and_of_the_right_size() -> None:
    variant = VARIANTS["A0"]
    weights = reparameterise(random_state(variant, 1000, seed=0), variant)
    assert round(weights.parameters / 1e6, 2) == 8.31
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    images[1] = 0.5  # a picture of one colour
    scores = run(build_model(weights, variant), images)
    assert scores.shape == (2, 1000)
    assert np.isfinite(scores).all()
    assert 0.01 < np.abs(scores).max() < 100
    assert not np.allclose(scores[0], scores[1], atol=1e-3)


def test_random_weights_have_the_shapes_of_the_variant_and_follow_the_seed() -> None:
    variant = VARIANTS["digits"]
    first, again, other = (random_state(variant, 10, seed) for seed in (0, 0, 1))
    assert {name: array.shape for name, array in first.items()} == variant.train_time_shapes(10)
    assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
