"""Synthetic pictures and the comparison that every test of the preprocessing uses."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing
from support.reference_preprocessing import reference_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

GUIDE = Preprocessing()


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth gradients, an edge and some noise, as in a photo; mode RGB."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, width)[None, :, None]
    y = np.linspace(0, 1, height)[:, None, None]
    frequency = rng.uniform(2, 20, 3)
    picture = 128 + 70 * np.sin(frequency * x + 3 * y) + 40 * np.cos(frequency[::-1] * y - 5 * x * y)
    picture = picture + 30 * (x + y > 1) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def preprocessed(data: bytes, preprocessing: Preprocessing = GUIDE, **limits: int) -> NDArray[np.uint8]:
    """What the server makes of the file."""
    out = np.full(preprocessing.shape, 77, np.uint8)
    preprocess_into(data, preprocessing, out, **limits)
    return out


def equal_share(pixels: NDArray[np.uint8], data: bytes, preprocessing: Preprocessing = GUIDE) -> float:
    """Share of values equal to the reference's; fails where one is further off than one grey level."""
    reference = reference_pixels(data, preprocessing.resize, preprocessing.crop)
    distance = np.abs(pixels.astype(np.int16) - reference.astype(np.int16))
    assert distance.max() <= 1, f"{distance.max()} grey levels off"
    return float((distance == 0).mean())
