"""The guide's preprocessing in plain Pillow: a model card made with it owes nothing to the server's."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

GUIDE = Preprocessing()
"""Shorter side 256, centre crop 224, ImageNet's mean and standard deviation."""


def crop_picture(data: bytes) -> NDArray[np.uint8]:
    """Decode, resize and crop.

    Args:
        data: an encoded image.

    Returns:
        Pixels [224, 224, 3] in RGB order.
    """
    with Image.open(io.BytesIO(data)) as file:
        picture = file.convert("RGB")
    width, height = picture.size
    shorter = min(width, height)
    if shorter != GUIDE.resize:
        # The longer side is truncated, not rounded: so it is in the guide's script.
        size = (int(GUIDE.resize * width / shorter), int(GUIDE.resize * height / shorter))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left = round((picture.width - GUIDE.crop) / 2)
    top = round((picture.height - GUIDE.crop) / 2)
    return np.asarray(picture.crop((left, top, left + GUIDE.crop, top + GUIDE.crop)))


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale to the network's input.

    Args:
        pixels: [n, 224, 224, 3], RGB.

    Returns:
        (pixel / 255 - mean) / std as [n, 3, 224, 224].
    """
    mean, std = np.array(GUIDE.mean, np.float32), np.array(GUIDE.std, np.float32)
    scaled = (pixels.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
