"""The UCI handwritten digits as JPEG pictures, divided into a training and a held-out part."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from repserve_convert.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT = 360
"""Pictures kept from training, 20 % of 1,797, equally many of each digit as near as can be."""
DARKEST = 16
"""Value of a fully inked cell in the data set; 0 is paper."""
DIGIT_SIDE = 80
"""Pixels of a drawn digit; it lies wholly within the centre crop (224/256) of every canvas below."""
CANVASES = ((96, 96), (107, 96), (96, 121), (128, 96), (96, 96), (96, 139))
"""(width, height) in pixels, taken in turns: square, wide and tall, as photographs are."""
JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Picture:
    """One digit as a file."""

    name: str
    """File name, with the digit's number in the data set."""
    label: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Split:
    """The pictures to train on and the ones to judge by."""

    training: list[Picture]
    held_out: list[Picture]


def load_pictures(seed: int) -> Split:
    """Draw the data set that comes with scikit-learn, and divide it.

    Args:
        seed: of the division, which keeps the proportions of the classes.

    Returns:
        1,437 pictures for training and 360 held out, each in the order of the data set.

    Raises:
        ConversionError: scikit-learn is not installed.
    """
    digits = require("sklearn.datasets").load_digits()
    training, held_out = require("sklearn.model_selection").train_test_split(
        np.arange(len(digits.target)), test_size=HELD_OUT, stratify=digits.target, random_state=seed
    )

    def pictures(numbers: NDArray[np.int64]) -> list[Picture]:
        return [
            Picture(
                name=f"digit_{number:05d}.jpg",
                label=int(digits.target[number]),
                jpeg=_jpeg(digits.images[number], CANVASES[number % len(CANVASES)]),
            )
            for number in sorted(numbers)
        ]

    return Split(pictures(training), pictures(held_out))


def _jpeg(cells: NDArray[np.float64], canvas: tuple[int, int]) -> bytes:
    """Draw 8 x 8 cells, dark on white, in the middle of a canvas, and encode it as a grey JPEG."""
    grey = np.round(255 - cells * (255 / DARKEST)).astype(np.uint8)
    digit = Image.fromarray(grey).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
    picture = Image.new("L", canvas, color=255)
    picture.paste(digit, ((canvas[0] - DIGIT_SIDE) // 2, (canvas[1] - DIGIT_SIDE) // 2))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
