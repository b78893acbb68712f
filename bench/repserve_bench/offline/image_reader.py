"""Model inputs made from image files, quickly as in the server or exactly as in the guide's script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from repserve_bench.offline.errors import BadImageError
from repserve_server.errors import ImageError
from repserve_server.imaging.image_format import corrupt, open_image
from repserve_server.imaging.model_input import as_model_input, write_encoded
from repserve_server.imaging.preprocessing import CHANNELS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from repserve_server.imaging.preprocessing import Preprocessing

MAX_PIXELS = 100_000_000
"""Largest width times height that is decoded, as in the server."""


@dataclass(frozen=True)
class ImageReader:
    """Makes model inputs from images; used by many threads or processes at once.

    Attributes:
        preprocessing: Sizes, mean and standard deviation.
        dtype: The dtype of the model's input: ``float32`` [3, crop, crop], normalised, or ``uint8`` [crop, crop, 3].
        exact: Scale the whole picture before the crop, as the guide's script does, for the same bytes. Otherwise
            only the part needed for the crop is scaled, which is faster; no pixel is off by more than one grey level.
    """

    preprocessing: Preprocessing
    dtype: str = "float32"
    exact: bool = False

    def read(self, file: Path) -> NDArray[np.generic]:
        """Read and prepare one image.

        Raises:
            BadImageError: It cannot be read, decoded or accepted.
        """
        return self.prepare(file, read_image(file))

    def prepare(self, file: Path, data: bytes) -> NDArray[np.generic]:
        """Decode, scale and crop an image, and normalise it where the model takes float32.

        Args:
            file: Where it came from, for errors.
            data: The whole encoded file.

        Raises:
            BadImageError: It cannot be decoded or is not accepted.
        """
        try:
            if self.exact:
                pixels = exact_pixels(data, self.preprocessing)[np.newaxis]
                values = as_model_input(pixels, self.preprocessing, np.dtype(self.dtype)).squeeze(0)
            else:
                values = np.empty(self._shape, self.dtype)
                write_encoded(data, self.preprocessing, values, max_pixels=MAX_PIXELS)
        except ImageError as error:
            raise BadImageError(f"{file}: {error.message}") from error
        return values

    @property
    def _shape(self) -> tuple[int, ...]:
        crop = self.preprocessing.crop
        return self.preprocessing.shape if self.dtype == "uint8" else (CHANNELS, crop, crop)


def read_image(file: Path) -> bytes:
    """Read an encoded image.

    Raises:
        BadImageError: The file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadImageError(f"{file}: cannot be read: {error.strerror}") from error


def exact_pixels(data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Preprocess as the guide does, step by step: RGB, the shorter side scaled to ``resize``, the centre cut out.

    Args:
        data: The whole encoded file: JPEG, PNG, WebP or BMP.
        preprocessing: Sizes of the scaled shorter side and of the crop.

    Returns:
        uint8 [crop, crop, 3], RGB.

    Raises:
        ImageError: The image cannot be decoded or is not accepted, or the whole of it, scaled, is too large.
    """
    name, encoded = open_image(data, MAX_PIXELS)
    try:
        image = encoded.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise corrupt(name, error) from error
    width, height = image.size
    shorter = min(width, height)
    if shorter != preprocessing.resize:
        scaled = (int(preprocessing.resize * width / shorter), int(preprocessing.resize * height / shorter))
        if scaled[0] * scaled[1] > MAX_PIXELS:
            raise ImageError(
                f"the {name} image of {width} x {height} pixels would be scaled to {scaled[0]} x {scaled[1]}, more "
                f"than the {MAX_PIXELS} pixels that are accepted; leave out --exact, or the picture",
                kind="too_large",
            )
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left = round((image.width - preprocessing.crop) / 2.0)
    top = round((image.height - preprocessing.crop) / 2.0)
    cropped = image.crop((left, top, left + preprocessing.crop, top + preprocessing.crop))
    return np.frombuffer(cropped.tobytes(), np.uint8).reshape(preprocessing.shape)
