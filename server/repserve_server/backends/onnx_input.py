"""The input of an ONNX model: which of the two kinds of images it takes, and of which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repserve_server.backends.base import BackendError, BackendOptions, TensorSpec, fit_crop, image_specs
from repserve_server.imaging.preprocessing import CHANNELS

_DIMENSIONS = 4


@dataclass(frozen=True)
class OnnxInput:
    """An input as its runtime describes it: name, numpy's dtype, and shape, with None for each open side."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} [{sides}]"

    def fits(self, spec: TensorSpec) -> bool:
        """Whether batches of such images can be given to it."""
        return (
            self.dtype == spec.dtype
            and len(self.shape) == 1 + len(spec.shape)
            and all(side in (None, wanted) for side, wanted in zip(self.shape[1:], spec.shape, strict=True))
        )


def read_input(path: Path, inputs: Sequence[OnnxInput], options: BackendOptions) -> tuple[TensorSpec, BackendOptions]:
    """Find out what a model file takes: normalised float32 images, or uint8 pixels that it normalises itself.

    Args:
        path: the file, for messages.
        inputs: all inputs of the model.
        options: of the backend.

    Returns:
        The input, and the options with the crop of the model's own image size, where the crop was open.

    Raises:
        BackendError: it takes neither, or has several inputs.
    """
    if len(inputs) != 1:
        raise BackendError(f"{path}: the model has {len(inputs)} inputs, expected one image")
    (image,) = inputs
    if options.crop_open and len(image.shape) == _DIMENSIONS:
        height, width = image.shape[2:] if image.shape[1] == CHANNELS else image.shape[1:3]
        if height is not None and height == width:
            options = replace(options, preprocessing=fit_crop(options.preprocessing, height))
    crop = options.preprocessing.crop
    for spec in image_specs(image.name, options.preprocessing):
        if image.fits(spec):
            return spec, options
    raise BackendError(
        f"{path}: the input is {image}, expected float32 [?, 3, {crop}, {crop}] or uint8 [?, {crop}, {crop}, 3]; "
        "set crop in model.toml if it takes another size"
    )
