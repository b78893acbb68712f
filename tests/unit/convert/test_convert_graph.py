from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.errors import ConversionError
from repserve_convert.graph import build_model, save_model
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import State, reparameterise
from repserve_server.backends.base import BackendOptions
from repserve_server.backends.onnxruntime import OnnxRuntimeBackend
from repserve_server.backends.openvino import OpenVinoBackend
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from repserve_server.backends.base import Backend

TINY = Variant("tiny", (2, 1, 2, 1), (1 / 16, 1 / 16, 1 / 16, 1 / 32))
GROUPED = Variant("grouped", (2, 1, 2, 1), (1 / 16, 1 / 16, 1 / 16, 1 / 32), groups=4)
NEWEST = onnx.defs.onnx_opset_version()
CLASSES = 7
SIZE = 40


@pytest.fixture(scope="module")
def weights() -> State:
    return reparameterise(random_state(TINY, CLASSES, seed=1), TINY)


def run(model: onnx.ModelProto, images: NDArray[np.generic]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["output1"], {"actual_input_1": images})[0]
    return result


@pytest.mark.parametrize("batch", [1, 3])
def test_runtimes_agree_on_any_batch_size(weights: State, batch: int) -> None:
    model = build_model(weights, TINY, size=SIZE)
    images = np.random.default_rng(2).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)
    scores = run(model, images)
    assert scores.shape == (batch, CLASSES)
    (expected,) = ReferenceEvaluator(model).run(["output1"], {"actual_input_1": images})
    np.testing.assert_allclose(scores, np.asarray(expected), atol=1e-5)


@pytest.mark.parametrize("variant", [TINY, GROUPED], ids=lambda variant: variant.name)
def test_the_multi_branch_graph_does_what_the_deployed_one_does(variant: Variant) -> None:
    """The branches go a way of their own through the runtime: neither merging nor groups can be wrong unnoticed."""
    state = random_state(variant, CLASSES, seed=6)
    for name, array in state.items():
        if name.endswith("running_var"):
            state[name] = array * np.random.default_rng(7).uniform(0.5, 2, array.shape).astype(np.float32)
    images = np.random.default_rng(8).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    scores = run(build_model(state, variant, size=SIZE), images)
    np.testing.assert_allclose(
        run(build_model(reparameterise(state, variant), variant, size=SIZE), images), scores, atol=1e-5
    )
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_the_multi_branch_graph_is_made_of_the_layers_of_training() -> None:
    model = build_model(random_state(GROUPED, CLASSES, seed=6), GROUPED)
    count = Counter(node.op_type for node in model.graph.node)
    identities = sum(block.has_identity for block in GROUPED.blocks)
    assert count["Conv"] == 2 * len(GROUPED.blocks)
    assert count["BatchNormalization"] == 2 * len(GROUPED.blocks) + identities
    assert count["Add"] == len(GROUPED.blocks) + identities
    assert count["Relu"] == len(GROUPED.blocks)
    names = {constant.name for constant in model.graph.initializer}
    assert names == set(GROUPED.train_time_shapes(CLASSES))
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("actual_input_1", "output1")


@pytest.mark.parametrize("opset", range(11, NEWEST + 1))
@pytest.mark.parametrize("branches", [False, True], ids=["deployed", "branches"])
def test_every_opset_gives_the_same_scores(weights: State, opset: int, branches: bool) -> None:
    source = random_state(TINY, CLASSES, seed=1) if branches else weights
    model = build_model(source, TINY, size=SIZE, opset=opset, pixels=Preprocessing())
    assert model.opset_import[0].version == opset
    pixels = np.random.default_rng(2).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    expected = run(build_model(weights, TINY, size=SIZE), normalise(pixels, Preprocessing()))
    np.testing.assert_allclose(run(model, pixels), expected, atol=1e-5)


def test_the_file_format_is_the_oldest_that_has_the_opset(weights: State) -> None:
    """ONNX's own table of versions: opset 11 came with format 6, opset 17 with format 8."""
    formats = {opset: build_model(weights, TINY, opset=opset).ir_version for opset in (11, 17)}
    assert formats == {11: 6, 17: 8}


@pytest.mark.parametrize("opset", [7, 10, NEWEST + 1])
def test_an_opset_that_cannot_be_written_is_refused(weights: State, opset: int) -> None:
    with pytest.raises(ConversionError, match=f"opset {opset} cannot be written: expected 11.* to {NEWEST}"):
        build_model(weights, TINY, opset=opset)


@pytest.mark.parametrize("grey", [0, 255])
def test_pixels_are_normalised_before_the_border_of_zeros_is_added(weights: State, grey: int) -> None:
    """A picture of one colour: if zeros stood around the pixels instead, only scores near its border would differ."""
    pixels = np.full((1, SIZE, SIZE, 3), grey, np.uint8)
    scores = run(build_model(weights, TINY, size=SIZE, pixels=Preprocessing()), pixels)
    expected = run(build_model(weights, TINY, size=SIZE), normalise(pixels, Preprocessing()))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_pixels_have_the_channels_last(weights: State) -> None:
    (entry,) = build_model(weights, TINY, pixels=Preprocessing()).graph.input
    sizes = [dimension.dim_param or dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
    assert (entry.name, sizes) == ("actual_input_1", ["batch", 224, 224, 3])
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend, OpenVinoBackend])
@pytest.mark.parametrize("branches", [False, True], ids=["deployed", "branches"])
def test_the_servers_backends_run_a_model_that_takes_pixels(
    tmp_path: Path, backend: Callable[[BackendOptions], Backend], branches: bool
) -> None:
    """They hand it the pixels as they are, where they normalise for a model that takes float32."""
    variant = VARIANTS["digits"]
    state = random_state(variant, CLASSES, seed=0)
    deployed = reparameterise(state, variant)
    save_model(build_model(deployed, variant), tmp_path / "float.onnx")
    save_model(build_model(state if branches else deployed, variant, pixels=Preprocessing()), tmp_path / "uint8.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (3, 224, 224, 3), np.uint8)
    pixels[2] = 255
    scores = {}
    for name in ("float", "uint8"):
        options = BackendOptions(device="cpu", path=tmp_path / f"{name}.onnx", precision="f32")
        loaded = backend(options)
        assert (loaded.input.dtype, loaded.input.shape) == ("uint8", (224, 224, 3))
        assert loaded.classes == CLASSES
        scores[name] = loaded.run(pixels).copy()
        loaded.close()
    np.testing.assert_allclose(scores["uint8"], scores["float"], atol=1e-5)
    assert np.abs(scores["float"][0] - scores["float"][2]).max() > 0.01


def test_a_model_that_fails_its_check_leaves_the_old_file(weights: State, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")

    def refuse(written: Path) -> None:
        assert onnx.load(written).graph.name == "RepVGG-tiny"
        raise ConversionError("no")

    with pytest.raises(ConversionError, match="no"):
        save_model(build_model(weights, TINY), target, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"old"


def test_scores_follow_the_linear_layer(weights: State) -> None:
    """The Gemm is not transposed by mistake: with zero weights only the biases are left."""
    model = build_model(weights | {"linear.weight": np.zeros_like(weights["linear.weight"])}, TINY, size=SIZE)
    scores = run(model, np.ones((2, 3, SIZE, SIZE), np.float32))
    np.testing.assert_allclose(scores, np.stack([weights["linear.bias"]] * 2))


def test_names_types_and_opset_are_the_guides(weights: State) -> None:
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


def test_equal_weights_give_equal_files(weights: State, tmp_path: Path) -> None:
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
    assert round(sum(array.size for array in weights.values()) / 1e6, 2) == 8.31
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
