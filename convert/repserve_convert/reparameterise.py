"""Re-parameterisation: every train-time block becomes one 3x3 convolution with the same output (numpy only).

A batch normalisation in evaluation mode is an affine map per channel, so it folds into the convolution before
it; a 1x1 kernel is a 3x3 kernel that is zero off its centre, and the identity is a 1x1 kernel; kernels over
the same input add up. All of this holds for each group of a grouped convolution. Sums are taken in float64; results
are float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from repserve_convert.architecture import DEPLOYED_PART, Block, Variant
from repserve_convert.checkpoint import Checkpoint

EPSILON = 1e-5
"""Added to the variance by the reference implementation's batch normalisations (and torch's default)."""

FloatArray = NDArray[np.float32]
State = dict[str, NDArray[np.float32]]
"""A state dict in numpy: array by name."""


def reparameterise(state: Mapping[str, NDArray[np.floating]], variant: Variant) -> State:
    """Merge the branches of every block; weights that are already in the deployed form stay as they are.

    Args:
        state: arrays as in a file, in any form and by any names that ``Checkpoint.recognise`` knows.
        variant: the network they belong to.

    Returns:
        Weight and bias of one convolution per block, and of the linear layer, in network order, by the names under
        which the reference implementation saves the deployed form.

    Raises:
        ConversionError: the arrays are not the variant's; see ``Checkpoint.check``.
    """
    checkpoint = Checkpoint.recognise(state)
    checkpoint.check(variant)
    known = dict(checkpoint.state)
    if not checkpoint.deployed:
        for block in variant.blocks:
            known |= _merge(known, block)
    return {name: known[name].astype(np.float32) for name in variant.deployed_shapes(checkpoint.classes)}


def _merge(state: Mapping[str, NDArray[np.floating]], block: Block) -> Mapping[str, NDArray[np.float64]]:
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
    prefix = f"{block.name}.{DEPLOYED_PART}"
    return {f"{prefix}.weight": kernel, f"{prefix}.bias": bias}


def _fold(
    state: Mapping[str, NDArray[np.floating]], batch_norm: str, kernel: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fold a batch normalisation into the bias-free convolution before it; returns kernel and bias."""
    gamma, beta, mean, variance = (
        state[f"{batch_norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + EPSILON)
    return kernel.astype(np.float64) * scale[:, np.newaxis, np.newaxis, np.newaxis], beta - mean * scale
