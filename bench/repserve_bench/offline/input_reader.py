"""The model's input from a file: a tensor unchanged, or an image preprocessed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.dataset import IMAGE_SUFFIXES
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.files import TENSOR_SUFFIX
from repserve_bench.offline.image_reader import ImageReader, read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_server.backends.base import TensorSpec

Interval = tuple[float, float]


@dataclass(frozen=True)
class ModelInput:
    """One image as the model takes it, and when it was read and made: readings of the clock, in seconds."""

    values: NDArray[np.generic]
    read: Interval
    preprocess: Interval


@dataclass(frozen=True)
class InputReader:
    """Reads files in many threads at once.

    Attributes:
        spec: The model's input.
        images: How images are prepared, for the same dtype.
        clock: Seconds.
    """

    spec: TensorSpec
    images: ImageReader
    clock: Callable[[], float]

    def __call__(self, file: Path) -> ModelInput:
        """Read one file.

        Raises:
            BadImageError: It is an image that cannot be used.
            OfflineError: It is neither an image nor a tensor that the model takes.
        """
        suffix = file.suffix.lower()
        if suffix != TENSOR_SUFFIX and suffix not in IMAGE_SUFFIXES:
            raise OfflineError(f"{file}: expected a tensor ({TENSOR_SUFFIX}) or an image (.jpg, .jpeg, .png ...)")
        began = self.clock()
        data = self._read_tensor(file) if suffix == TENSOR_SUFFIX else read_image(file)
        was_read = self.clock()
        if suffix == TENSOR_SUFFIX:
            values: NDArray[np.generic] = np.frombuffer(data, _stored(self.spec.dtype)).reshape(self.spec.shape)
        else:
            values = self.images.prepare(file, data)
        return ModelInput(values, (began, was_read), (was_read, self.clock()))

    def _read_tensor(self, file: Path) -> bytes:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise OfflineError(f"cannot read {file}: {error.strerror}") from error
        values = math.prod(self.spec.shape)
        expected = values * np.dtype(self.spec.dtype).itemsize
        if len(data) == expected:
            return data
        takes = f"{self.spec.dtype} [{', '.join(map(str, self.spec.shape))}], {expected} bytes"
        if self.spec.dtype == "uint8" and len(data) == values * np.dtype(np.float32).itemsize:
            raise OfflineError(
                f"{file} holds float32, and the model normalises itself: it takes {takes}. Use 'repserve bench offline "
                "all', or an info file of type jpg, which prepare the images as it needs them"
            )
        raise OfflineError(f"{file} has {len(data)} bytes, and the model takes {takes}; preprocess the images again")


def _stored(dtype: str) -> np.dtype[np.generic]:
    """Return the dtype as stored in a file: little-endian."""
    return np.dtype(dtype).newbyteorder("<")
