from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_convert.architecture import VARIANTS, Block, Variant
from repserve_convert.errors import ConversionError
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import EPSILON, Affine, reparameterise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_convert.reparameterise import State

TINY = Variant("tiny", (2, 1, 2, 1), (1 / 16, 1 / 16, 1 / 32, 1 / 64))
CLASSES = 5


@pytest.fixture
def state() -> State:
    """Train-time weights with batch normalisations far from neutral."""
    state = random_state(TINY, CLASSES, seed=3)
    generator = np.random.default_rng(4)
    for name, array in state.items():
        if name.endswith("running_var"):
            state[name] = generator.uniform(0.05, 4, array.shape).astype(np.float32)
        elif array.ndim == 1:
            state[name] = generator.normal(0, 1, array.shape).astype(np.float32)
    return state


def convolve(
    images: NDArray[np.float64], kernel: NDArray[np.float32], stride: int, padding: int
) -> NDArray[np.float64]:
    """A convolution by its definition: [n, in, h, w] with [out, in, k, k]."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = kernel.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    result: NDArray[np.float64] = np.einsum("nihwyx,oiyx->nohw", windows, kernel.astype(np.float64))
    return result


def normalise(values: NDArray[np.float64], state: State, prefix: str) -> NDArray[np.float64]:
    """Batch normalisation in evaluation mode, by its definition."""
    weight, bias, mean, variance = (
        state[f"{prefix}.{name}"].astype(np.float64)[:, np.newaxis, np.newaxis]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    result: NDArray[np.float64] = (values - mean) / np.sqrt(variance + EPSILON) * weight + bias
    return result


def branches(images: NDArray[np.float64], state: State, block: Block) -> NDArray[np.float64]:
    """The block as it is trained, before its ReLU."""
    dense, point = f"{block.name}.rbr_dense", f"{block.name}.rbr_1x1"
    total = normalise(
        convolve(images, state[f"{dense}.conv.weight"], block.stride, 1), state, f"{dense}.bn"
    ) + normalise(convolve(images, state[f"{point}.conv.weight"], block.stride, 0), state, f"{point}.bn")
    if block.has_identity:
        total += normalise(images, state, f"{block.name}.rbr_identity")
    return total


@pytest.mark.parametrize("block", TINY.blocks, ids=lambda block: f"{block.name}-stride{block.stride}")
@pytest.mark.parametrize("size", [8, 7])
def test_one_convolution_does_what_the_branches_did(state: State, block: Block, size: int) -> None:
    images = np.random.default_rng(5).normal(size=(2, block.in_channels, size, size))
    weight, bias = reparameterise(state, TINY).convolutions[block.name]
    deployed = convolve(images, weight, block.stride, 1) + bias[:, np.newaxis, np.newaxis]
    np.testing.assert_allclose(deployed, branches(images, state, block), atol=1e-5)


def test_the_tiny_network_has_blocks_of_every_kind() -> None:
    kinds = {(block.stride, block.has_identity) for block in TINY.blocks}
    assert kinds == {(2, False), (1, True)}
    assert any(block.in_channels == block.out_channels and block.stride == 2 for block in TINY.blocks)


def test_results_are_float32_in_network_order(state: State) -> None:
    weights = reparameterise(state, TINY)
    assert list(weights.convolutions) == [block.name for block in TINY.blocks]
    assert weights.classes == CLASSES
    assert weights.parameters == TINY.deployed_parameters(CLASSES)
    assert {array.dtype for layer in weights.convolutions.values() for array in layer} == {np.dtype(np.float32)}


def test_the_prefix_of_parallel_training_and_its_counters_change_nothing(state: State) -> None:
    wrapped = {f"module.{name}": array for name, array in state.items()}
    wrapped["module.stage0.rbr_dense.bn.num_batches_tracked"] = np.array(7, np.float32)
    _assert_equal(reparameterise(wrapped, TINY).linear, reparameterise(state, TINY).linear)
    _assert_equal(
        reparameterise(wrapped, TINY).convolutions["stage0"],
        reparameterise(state, TINY).convolutions["stage0"],
    )


def _assert_equal(first: Affine, second: Affine) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_missing_key_is_named(state: State) -> None:
    del state["stage3.1.rbr_identity.weight"]
    del state["stage1.0.rbr_1x1.bn.bias"]
    with pytest.raises(ConversionError, match=r"'stage1\.0\.rbr_1x1\.bn\.bias' is missing, and RepVGG-tiny"):
        reparameterise(state, TINY)


@pytest.mark.parametrize("name", ["linear.weight", "linear.bias"])
def test_a_missing_linear_layer_is_named(state: State, name: str) -> None:
    del state[name]
    with pytest.raises(ConversionError, match=f"'{name}' is missing"):
        reparameterise(state, TINY)


def test_a_wrong_shape_is_named_with_the_expected_one(state: State) -> None:
    state["stage2.0.rbr_dense.conv.weight"] = np.zeros((9, 4, 3, 3), np.float32)
    with pytest.raises(ConversionError, match=r"stage2\.0\.rbr_dense\.conv\.weight.*\(9, 4, 3, 3\).*\(8, 4, 3, 3\)"):
        reparameterise(state, TINY)


@pytest.mark.parametrize("shape", [(CLASSES, 9), (CLASSES * 8,), (0, 8)])
def test_a_linear_weight_of_another_shape_is_refused(state: State, shape: tuple[int, ...]) -> None:
    state["linear.weight"] = np.zeros(shape, np.float32)
    with pytest.raises(ConversionError, match=r"'linear\.weight' has shape .*\(classes, 8\)"):
        reparameterise(state, TINY)


def test_weights_of_another_variant_are_refused() -> None:
    with pytest.raises(ConversionError, match=r"stage0\.rbr_dense\.conv\.weight.*\(64, 3, 3, 3\), RepVGG-A0 has"):
        reparameterise(random_state(VARIANTS["A1"], 10, 0), VARIANTS["A0"])


def test_weights_of_a_deeper_variant_are_not_cut_short(state: State) -> None:
    shallower = Variant("shallow", (1, 1, 2, 1), TINY.multipliers)
    with pytest.raises(ConversionError, match=r"'stage1\.1\.\S+' is not part of RepVGG-shallow"):
        reparameterise(state, shallower)


def test_a_deployed_file_is_recognised() -> None:
    with pytest.raises(ConversionError, match="deployed form"):
        reparameterise({"stage0.rbr_reparam.weight": np.zeros((4, 3, 3, 3), np.float32)}, TINY)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rbr_dense.bn.running_var", -1.0), ("rbr_1x1.conv.weight", np.nan), ("rbr_1x1.bn.bias", np.inf)],
)
def test_weights_that_are_not_finite_are_refused(state: State, name: str, value: float) -> None:
    state[f"stage2.0.{name}"].flat[0] = value
    with pytest.raises(ConversionError, match=r"'stage2\.0' are not finite"):
        reparameterise(state, TINY)
