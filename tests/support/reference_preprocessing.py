"""The offline guide's preprocessing, written out with Pillow: what the server's code is compared with."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def reference_pixels(data: bytes, resize: int = 256, crop: int = 224) -> NDArray[np.uint8]:
    """Decode, scale the shorter side to ``resize``, cut out the centre: uint8 [crop, crop, 3], RGB."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    if min(width, height) != resize:
        short = min(width, height)
        size = (int(resize * width / short), int(resize * height / short))
        image = image.resize(size, Image.Resampling.BILINEAR)
    width, height = image.size
    top = round((height - crop) / 2.0)
    left = round((width - crop) / 2.0)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def reference_tensor(data: bytes, resize: int = 256, crop: int = 224) -> NDArray[np.float32]:
    """What the guide writes to a .bin file: float32 [3, crop, crop], normalised."""
    channels_first = reference_pixels(data, resize, crop).transpose(2, 0, 1).astype(np.float32)
    mean = np.array(MEAN, np.float32)[:, None, None]
    std = np.array(STD, np.float32)[:, None, None]
    normalised: NDArray[np.float32] = (channels_first / np.float32(255) - mean) / std
    return normalised
