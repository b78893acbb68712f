"""Re-parameterisation: every train-time block becomes one 3x3 convolution with the same output (numpy only).

A batch normalisation in evaluation mode is an affine map per channel, so it folds into the convolution before
it; a 1x1 kernel is a 3x3 kernel that is zero off its centre, and the identity is a 1x1 kernel; kernels over
the same input add up. All of this holds for each group of a grouped convolution. Sums are taken in float64; results
are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repserve_convert.architecture import DEPLOYED_PART, Block, Variant
from repserve_convert.checkpoint import Checkpoint

EPSILON = 1e-5
"""Added to the variance by the reference implementation's batch normalisations (and torch's default)."""

FloatArray = NDArray[np.float32]
State = dict[str, NDArray[np.float32]]
"""A state dict in numpy: array by name."""


class Affine(NamedTuple):
    """A layer's float32 weight and bias."""

    weight: FloatArray
    """Convolution: [out, in of one group, 3, 3]; linear layer: [out, in]."""
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
    """Merge the branches of every block; weights that are already in the deployed form stay as they are.

    Args:
        state: arrays as in a file, in any form and by any names that ``Checkpoint.recognise`` knows.
        variant: the network they belong to.

    Returns:
        One convolution per block, and the linear layer, float32.

    Raises:
        ConversionError: the arrays are not the variant's; see ``Checkpoint.check``.
    """
    checkpoint = Checkpoint.recognise(state)
    checkpoint.check(variant)
    known = checkpoint.state
    if checkpoint.deployed:
        convolutions = {block.name: _affine(known, f"{block.name}.{DEPLOYED_PART}") for block in variant.blocks}
    else:
        convolutions = {block.name: _merge(known, block) for block in variant.blocks}
    return DeployedWeights(convolutions, _affine(known, "linear"))


def _affine(state: Mapping[str, NDArray[np.floating]], layer: str) -> Affine:
    """Take a layer's weight and bias as they are in the state dict."""
    return Affine(state[f"{layer}.weight"].astype(np.float32), state[f"{layer}.bias"].astype(np.float32))


def _merge(state: Mapping[str, NDArray[np.floating]], block: Block) -> Affine:
    """Compute the one convolution that equals the block's branches together."""
    dense_kernel, dense_bias = _fold(state, f"{block.name}.rbr_dense.bn", state[f"{block.name}.rbr_dense.conv.weight"])
    point_kernel, point_bias = _fold(state, f"{block.name}.rbr_1x1.bn", state[f"{block.name}.rbr_1x1.conv.weight"])
    kernel = dense_kernel
    kernel[:, :, 1, 1] += point_kernel[:, :, 0, 0]
    bias = dense_bias + point_bias
    if block.has_identity:
        # Within its group each channel is mapped to itself.
        identity = np.tile(np.eye(block.in_channels // block.groups), (block.groups, 1))[:, :, np.newaxis, np.newaxis]
        identity_kernel, identity_bias = _fold(state, f"{block.name}.rbr_identity", identity)
        kernel[:, :, 1, 1] += identity_kernel[:, :, 0, 0]
        bias += identity_bias
    return Affine(kernel.astype(np.float32), bias.astype(np.float32))


def _fold(
    state: Mapping[str, NDArray[np.floating]], batch_norm: str, kernel: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fold a batch normalisation into the bias-free convolution before it; returns kernel and bias."""
    gamma, beta, mean, variance = (
        state[f"{batch_norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    return kernel.astype(np.float64) * scale[:, np.newaxis, np.newaxis, np.newaxis], beta - mean * scale
