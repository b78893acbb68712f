"""Requests built from encoded bytes, a file, or an array of cropped pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from repserve_client.errors import InvalidArgumentError
from repserve_protos.v1 import classification_pb2

ImageInput: TypeAlias = bytes | str | os.PathLike[str] | npt.NDArray[np.uint8]
"""An encoded image, the path of one, or RGB pixels, uint8 ``[crop, crop, 3]`` or ``[n, crop, crop, 3]``."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message sent or received. gRPC's own limit of 4 MB is less than 32 images of 224 x 224 pixels."""
_ENVELOPE_BYTES = 4096
_MAX_TOP_K = 2**32 - 1
_CHANNELS = 3


@dataclass(frozen=True)
class RequestBuilder:
    """Builds the requests of one call or stream.

    Raises:
        InvalidArgumentError: When ``top_k`` is not a number of classes.
    """

    model: str = ""
    """Name of the model; may be empty when the server serves exactly one."""
    version: str = ""
    """Version of the model; empty for the newest that is served."""
    top_k: int = 5
    """How many classes to return for each image, at least 1."""
    urgent: bool = False
    """Whether the request goes before others in the queue, which keep one place in eight."""

    def __post_init__(self) -> None:
        if type(self.top_k) is not int or not 1 <= self.top_k <= _MAX_TOP_K:
            raise InvalidArgumentError(f"top_k is {self.top_k!r}; expected a whole number of at least 1")

    def build(self, image: ImageInput) -> classification_pb2.ClassifyRequest:
        """Build the request for ``image``.

        Raises:
            InvalidArgumentError: When the server would refuse the image, or its file cannot be read.
        """
        request = classification_pb2.ClassifyRequest(model=self.model, version=self.version, top_k=self.top_k)
        if self.urgent:
            request.priority = classification_pb2.PRIORITY_HIGH
        if isinstance(image, np.ndarray):
            request.pixels.CopyFrom(_pixels(image))
        elif isinstance(image, bytes):
            request.encoded_image = _checked_size(image, "the image")
        elif isinstance(image, str | os.PathLike):
            request.encoded_image = _read(image)
        else:
            raise InvalidArgumentError(
                f"cannot classify a {type(image).__name__}; expected bytes, a path, or a uint8 numpy array"
            )
        return request


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return _checked_size(Path(path).read_bytes(), f"the file {os.fspath(path)}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidArgumentError(f"cannot read {os.fspath(path)}: {reason}") from error


def _checked_size(data: bytes, name: str) -> bytes:
    if not data:
        raise InvalidArgumentError(f"{name} is empty (0 bytes); expected an encoded image such as a JPEG")
    if len(data) > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES:
        raise InvalidArgumentError(
            f"{name} has {len(data)} bytes; a request holds at most {MAX_MESSAGE_BYTES - _ENVELOPE_BYTES}"
        )
    return data


def _pixels(array: npt.NDArray[np.uint8]) -> classification_pb2.Pixels:
    if array.dtype != np.uint8:
        raise InvalidArgumentError(
            f"the pixels have dtype {array.dtype}; expected uint8, RGB values from 0 to 255, not normalised"
        )
    batch = array[np.newaxis] if array.ndim == _CHANNELS else array
    if batch.ndim != _CHANNELS + 1 or batch.shape[3] != _CHANNELS or batch.shape[1] != batch.shape[2]:
        raise InvalidArgumentError(
            f"the pixels have shape {list(array.shape)}; expected [crop, crop, 3] or [n, crop, crop, 3], "
            "the colour channels last"
        )
    if batch.size == 0:
        raise InvalidArgumentError(f"the pixels have shape {list(array.shape)}; expected at least one image")
    data = _checked_size(np.ascontiguousarray(batch).tobytes(), "the array of pixels")
    return classification_pb2.Pixels(count=batch.shape[0], data=data)
