"""From images to the input of a model: pixels as they are, or normalised for a float32 input.

The dtype of the target array decides: uint8 [crop, crop, 3], or float32 [3, crop, crop].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing


def write_encoded(data: bytes, preprocessing: Preprocessing, out: NDArray[np.generic], *, max_pixels: int) -> None:
    """Decode, resize and crop an image into ``out``, and normalise it if ``out`` is float32.

    Args:
        data: the whole encoded file.
        preprocessing: how images are prepared for the model.
        out: uint8 [crop, crop, 3] or float32 [3, crop, crop]; untouched when an error is raised.
        max_pixels: largest width times height that is decoded.

    Raises:
        ImageError: the image cannot be decoded or is not accepted.
    """
    if out.dtype == np.uint8:
        preprocess_into(data, preprocessing, out.view(np.uint8), max_pixels=max_pixels)
        return
    pixels = np.empty((1, *preprocessing.shape), np.uint8)
    preprocess_into(data, preprocessing, pixels[0], max_pixels=max_pixels)
    normalise(pixels, preprocessing, out[np.newaxis].view(np.float32))


def as_model_input(
    pixels: NDArray[np.uint8], preprocessing: Preprocessing, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Turn images that are already resized and cropped into the model's input.

    Args:
        pixels: uint8 [n, crop, crop, 3], RGB.
        preprocessing: mean and standard deviation of each channel.
        dtype: uint8 or float32.

    Returns:
        ``pixels`` themselves, or float32 [n, 3, crop, crop].
    """
    return pixels if dtype == np.uint8 else normalise(pixels, preprocessing)
