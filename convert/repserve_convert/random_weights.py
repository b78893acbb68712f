"""Train-time weights from a seed, for measurements of speed only."""

from __future__ import annotations

import math

import numpy as np

from repserve_convert.architecture import Block, Shape, Variant
from repserve_convert.reparameterise import FloatArray, State

# Mean and variance of max(x, 0) for a standard normal x: what a block gives, and so what the next one gets.
RECTIFIED_MEAN = 1 / math.sqrt(2 * math.pi)
RECTIFIED_VARIANCE = 0.5 - RECTIFIED_MEAN**2
# Shares of a block's output variance. The identity's is small: it takes the mean away, and dividing the rest
# by its deviation makes differences grow from block to block.
CONVOLUTION_SHARE = 0.45
IDENTITY_SHARE = 0.1


def random_state(variant: Variant, classes: int, seed: int) -> State:
    """Generate train-time weights.

    Kernels are drawn by He's rule, and the statistics and factors of the batch normalisations are such that
    activations neither grow nor fade from block to block; logits are of the order of 1.

    Args:
        variant: the network.
        classes: outputs of the linear layer.
        seed: equal seeds give equal weights.

    Returns:
        Float32 arrays by their names in the reference implementation.
    """
    generator = np.random.default_rng(seed)
    state: State = {}
    for block in variant.blocks:
        state |= _block(generator, block)
    state["linear.weight"] = _normal(generator, (classes, variant.features), variant.features**-0.5)
    state["linear.bias"] = _normal(generator, (classes,), 0.01)
    return state


def _block(generator: np.random.Generator, block: Block) -> State:
    """Generate a block's arrays."""
    state: State = {}
    for name, shape in block.shapes.items():
        if name.endswith(".conv.weight"):
            state[name] = _normal(generator, shape, math.sqrt(2 / math.prod(shape[1:])))
    # He's rule doubles the input's second moment: 1 for a normalised image, 1/2 for a rectified normal.
    variance = 2.0 if block.name == "stage0" else 1.0
    for branch in ("rbr_dense.bn", "rbr_1x1.bn"):
        state |= _batch_norm(
            generator,
            f"{block.name}.{branch}",
            block.out_channels,
            mean=0.0,
            variance=variance,
            share=CONVOLUTION_SHARE,
        )
    if block.has_identity:
        state |= _batch_norm(
            generator,
            f"{block.name}.rbr_identity",
            block.out_channels,
            mean=RECTIFIED_MEAN,
            variance=RECTIFIED_VARIANCE,
            share=IDENTITY_SHARE,
        )
    return state


def _batch_norm(
    generator: np.random.Generator, prefix: str, channels: int, *, mean: float, variance: float, share: float
) -> State:
    """Generate a batch normalisation for inputs of this mean and variance, and outputs of variance ``share``."""
    gain = np.float32(math.sqrt(share))
    return {
        f"{prefix}.weight": gain * generator.uniform(0.8, 1.2, channels).astype(np.float32),
        f"{prefix}.bias": _normal(generator, (channels,), 0.05),
        f"{prefix}.running_mean": np.float32(mean) + _normal(generator, (channels,), 0.05),
        f"{prefix}.running_var": np.float32(variance) * generator.uniform(0.9, 1.1, channels).astype(np.float32),
    }


def _normal(generator: np.random.Generator, shape: Shape, deviation: float) -> FloatArray:
    return generator.standard_normal(shape, np.float32) * np.float32(deviation)
