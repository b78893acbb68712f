"""Re-parameterisation: every train-time block becomes one 3x3 convolution with the same output (numpy only).

A batch normalisation in evaluation mode is an affine map per channel, so it folds into the convolution before
it; a 1x1 kernel is a 3x3 kernel that is zero off its centre, and the identity is a 1x1 kernel; kernels over
the same input add up. Sums are taken in float64; results are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from repserve_convert.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from repserve_convert.architecture import Block, Shape, Variant

EPSILON = 1e-5
"""What the reference implementation's batch normalisations (and torch's default) add to the variance."""
ADVICE = "name the variant that the file was trained as"
COUNTER = "num_batches_tracked"
"""Last part of the keys that count training steps; of no use to inference."""

MATRIX = 2
"""Dimensions of a linear layer's weight."""

FloatArray = NDArray[np.float32]
State = dict[str, NDArray[np.float32]]
"""A state dict in numpy: array by name."""


class Affine(NamedTuple):
    """A layer's float32 weight and bias."""

    weight: FloatArray
    """Convolution: [out, in, 3, 3]; linear layer: [out, in]."""
    bias: FloatArray
    """[out]"""


@dataclass(frozen=True, slots=True)
class DeployedWeights:
    """The weights of a re-parameterised network."""

    convolutions: dict[str, Affine]
    """By block name (``stage0``, ``stage1.0``, ...), in network order."""
    linear: Affine

    @property
    def classes(self) -> int:
        """Outputs of the linear layer."""
        return int(self.linear.weight.shape[0])

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(array.size for layer in (*self.convolutions.values(), self.linear) for array in layer)


def reparameterise(state: Mapping[str, NDArray[np.floating]], variant: Variant) -> DeployedWeights:
    """Merge the branches of every block.

    Args:
        state: train-time arrays by their names in the reference implementation. A leading ``module.`` is
            dropped, and counters of training steps are passed over.
        variant: the network they belong to.

    Returns:
        One convolution per block, and the linear layer, float32.

    Raises:
        ConversionError: the first key, in network order, that is missing or has another shape than the
            variant's; a key that the variant does not have; a layer whose weights are not finite.
    """
    state = without_prefix(state)
    _check(state, variant)
    convolutions = {block.name: _merge(state, block) for block in variant.blocks}
    linear = Affine(
        state["linear.weight"].astype(np.float32),
        state["linear.bias"].astype(np.float32),
    )
    for name, layer in (*convolutions.items(), ("linear", linear)):
        if not all(np.isfinite(array).all() for array in layer):
            raise ConversionError(
                f"the weights of {name!r} are not finite: the file holds NaN, infinity or a negative variance"
            )
    return DeployedWeights(convolutions, linear)


def without_prefix(state: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
    """Drop the ``module.`` that torch's data-parallel training puts before the names."""
    return {name.removeprefix("module."): array for name, array in state.items()}


def _check(state: Mapping[str, NDArray[np.floating]], variant: Variant) -> None:
    """Raise ConversionError unless the state has exactly the variant's arrays, for any number of classes."""
    linear = state.get("linear.weight")
    # The file decides how many classes there are; without a usable linear.weight, its own check below fails.
    classes = linear.shape[0] if linear is not None and linear.ndim == MATRIX else 0
    expected = variant.train_time_shapes(classes)
    for name, shape in expected.items():
        if name not in state:
            raise ConversionError(_missing(name, state, variant))
        if state[name].shape != shape or 0 in shape:
            raise ConversionError(
                f"key {name!r} has shape {state[name].shape}, "
                f"RepVGG-{variant.name} has {_readable(name, shape)}: {ADVICE}"
            )
    for name in state:
        if name not in expected and not name.endswith(COUNTER):
            raise ConversionError(f"key {name!r} is not part of RepVGG-{variant.name}: {ADVICE}")


def _missing(name: str, state: Iterable[str], variant: Variant) -> str:
    if any(".rbr_reparam." in key for key in state):
        return (
            f"key {name!r} is missing: the file is in the deployed form (it has rbr_reparam keys); "
            "give the train-time file instead"
        )
    return (
        f"key {name!r} is missing, and RepVGG-{variant.name} has it: "
        "the file is incomplete, or was trained as another variant"
    )


def _readable(name: str, shape: Shape) -> str:
    """The shape in an error message; the number of classes is free."""
    if name == "linear.weight":
        return f"(classes, {shape[1]})"
    return str(shape)


def _merge(state: Mapping[str, NDArray[np.floating]], block: Block) -> Affine:
    """The one convolution that does what the block's branches do together."""
    dense_kernel, dense_bias = _fold(state, f"{block.name}.rbr_dense.bn", state[f"{block.name}.rbr_dense.conv.weight"])
    point_kernel, point_bias = _fold(state, f"{block.name}.rbr_1x1.bn", state[f"{block.name}.rbr_1x1.conv.weight"])
    kernel = dense_kernel
    kernel[:, :, 1, 1] += point_kernel[:, :, 0, 0]
    bias = dense_bias + point_bias
    if block.has_identity:
        identity = np.eye(block.in_channels)[:, :, np.newaxis, np.newaxis]
        identity_kernel, identity_bias = _fold(state, f"{block.name}.rbr_identity", identity)
        kernel[:, :, 1, 1] += identity_kernel[:, :, 0, 0]
        bias += identity_bias
    return Affine(kernel.astype(np.float32), bias.astype(np.float32))


def _fold(
    state: Mapping[str, NDArray[np.floating]], batch_norm: str, kernel: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel and bias of a bias-free convolution followed by a batch normalisation."""
    gamma, beta, mean, variance = (
        state[f"{batch_norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # the caller reports what is not finite, by name
        scale = gamma / np.sqrt(variance + EPSILON)
    return kernel.astype(np.float64) * scale[:, np.newaxis, np.newaxis, np.newaxis], beta - mean * scale
