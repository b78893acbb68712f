from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_convert.architecture import VARIANTS, Block, Variant
from repserve_convert.errors import ConversionError
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import EPSILON, reparameterise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_convert.reparameterise import State

TINY = Variant("tiny", (2, 1, 2, 1), (1 / 16, 1 / 16, 1 / 32, 1 / 64))
GROUPED = Variant("grouped", (2, 1, 3, 1), (1 / 8, 1 / 16, 1 / 32, 1 / 64), groups=2)
CLASSES = 5


@pytest.fixture
def state() -> State:
    return far_from_neutral(TINY)


def far_from_neutral(variant: Variant) -> State:
    """Train-time weights with batch normalisations that change much."""
    state = random_state(variant, CLASSES, seed=3)
    generator = np.random.default_rng(4)
    for name, array in state.items():
        if name.endswith("running_var"):
            state[name] = generator.uniform(0.05, 4, array.shape).astype(np.float32)
        elif array.ndim == 1:
            state[name] = generator.normal(0, 1, array.shape).astype(np.float32)
    return state


def convolve(
    images: NDArray[np.float64], kernel: NDArray[np.float32], stride: int, padding: int, groups: int
) -> NDArray[np.float64]:
    """A convolution by its definition: [n, in, h, w] with [out, in / groups, k, k]."""
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    size = kernel.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    return np.concatenate(
        [
            np.einsum("nihwyx,oiyx->nohw", part, weight.astype(np.float64))
            for part, weight in zip(np.split(windows, groups, axis=1), np.split(kernel, groups), strict=True)
        ],
        axis=1,
    )


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
        convolve(images, state[f"{dense}.conv.weight"], block.stride, 1, block.groups), state, f"{dense}.bn"
    ) + normalise(convolve(images, state[f"{point}.conv.weight"], block.stride, 0, block.groups), state, f"{point}.bn")
    if block.has_identity:
        total += normalise(images, state, f"{block.name}.rbr_identity")
    return total


@pytest.mark.parametrize("variant", [TINY, GROUPED], ids=lambda variant: variant.name)
@pytest.mark.parametrize("size", [8, 7])
def test_one_convolution_does_what_the_branches_did(variant: Variant, size: int) -> None:
    state = far_from_neutral(variant)
    deployed = reparameterise(state, variant)
    for block in variant.blocks:
        images = np.random.default_rng(5).normal(size=(2, block.in_channels, size, size))
        weight, bias = (deployed[f"{block.name}.rbr_reparam.{part}"] for part in ("weight", "bias"))
        scores = convolve(images, weight, block.stride, 1, block.groups) + bias[:, np.newaxis, np.newaxis]
        np.testing.assert_allclose(scores, branches(images, state, block), atol=1e-5, err_msg=block.name)


def test_the_small_networks_have_blocks_of_every_kind() -> None:
    blocks = TINY.blocks + GROUPED.blocks
    kinds = {(block.stride, block.has_identity, block.groups) for block in blocks}
    assert kinds == {(2, False, 1), (1, True, 1), (1, True, 2), (2, False, 2)}
    assert any(block.in_channels == block.out_channels and block.stride == 2 for block in blocks)


def test_results_are_float32_in_network_order(state: State) -> None:
    weights = reparameterise(state, TINY)
    shapes = TINY.deployed_shapes(CLASSES)
    assert [(name, array.shape) for name, array in weights.items()] == list(shapes.items())
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}


def test_the_prefix_of_parallel_training_and_its_counters_change_nothing(state: State) -> None:
    wrapped = {f"module.{name}": array for name, array in state.items()}
    wrapped["module.stage0.rbr_dense.bn.num_batches_tracked"] = np.array(7, np.float32)
    _assert_equal(reparameterise(wrapped, TINY), reparameterise(state, TINY))


def _assert_equal(first: State, second: State) -> None:
    assert list(first) == list(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_the_first_missing_key_is_named(state: State) -> None:
    del state["stage3.1.rbr_identity.weight"]
    del state["stage1.0.rbr_1x1.bn.bias"]
    with pytest.raises(ConversionError, match=r"'stage1\.0\.rbr_1x1\.bn\.bias' is missing, but RepVGG-tiny"):
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


def test_weights_in_the_deployed_form_are_taken_as_they_are(state: State) -> None:
    merged = reparameterise(state, TINY)
    _assert_equal(reparameterise(dict(reversed(merged.items())), TINY), merged)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("rbr_dense.bn.running_var", -1.0, "a negative variance"),
        ("rbr_1x1.conv.weight", np.nan, "NaN or infinity"),
        ("rbr_1x1.bn.bias", np.inf, "NaN or infinity"),
    ],
)
def test_values_that_no_network_has_are_refused(state: State, name: str, value: float, problem: str) -> None:
    state[f"stage2.0.{name}"].flat[0] = value
    with pytest.raises(ConversionError, match=rf"'stage2\.0\.{name}' holds {problem}"):
        reparameterise(state, TINY)
