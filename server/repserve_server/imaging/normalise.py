"""The guide's normalisation, for models that do not normalise on the device themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repserve_server.imaging.preprocessing import CHANNELS, Preprocessing


def normalise(
    images: NDArray[np.uint8], preprocessing: Preprocessing, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Compute (pixel / 255 - mean) / std, channels first.

    The steps are the guide's, one after the other in float32: the numbers are the same to the last bit.

    Args:
        images: uint8 [n, crop, crop, 3], RGB.
        preprocessing: mean and standard deviation of each channel, in units of 1 (not of 255).
        out: float32 [n, 3, crop, crop] to write to; None for a new C-contiguous array.

    Returns:
        ``out``.
    """
    count, height, width, _ = images.shape
    mean = np.array(preprocessing.mean, np.float32).reshape(CHANNELS, 1, 1)
    std = np.array(preprocessing.std, np.float32).reshape(CHANNELS, 1, 1)
    normalised = np.empty((count, CHANNELS, height, width), np.float32) if out is None else out
    normalised[...] = images.transpose(0, 3, 1, 2)
    normalised /= np.float32(255)
    normalised -= mean
    normalised /= std
    return normalised
