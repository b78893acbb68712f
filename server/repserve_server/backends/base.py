"""The contract between a worker and whatever runs its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import CHANNELS, Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["auto", "f32", "bf16"]
InputKind = Literal["pixels", "tensor"]
_IMAGE_DIMENSIONS = 4
DEFAULT_OUTPUT_NAME = "scores"
"""Of a model that gives its output no name."""


class BackendError(RepServeError):
    """The model cannot be loaded or run on this device; the message says what to do."""


class DeviceError(BackendError):
    """The device failed and this process shall not use it any more; its worker is replaced by a new one."""


@dataclass(frozen=True)
class TensorSpec:
    """What a backend takes: the name of the model's input, and dtype, shape and layout of one image."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str


@dataclass(frozen=True)
class BackendOptions:
    """What a backend is made from.

    Attributes:
        device: as the server was told: ``cpu``, ``npu:0``, ``sim:310p``.
        path: the version's folder in the model repository, or one model file.
        runtime: ``auto`` or the name of a backend.
        precision: arithmetic wanted; ``auto`` is what the device does fastest.
        threads: CPU threads the backend may use.
        max_batch_size: the largest batch to offer.
        compiled_sizes: sizes the model is compiled for, where the device needs fixed ones; None for 1 and
            max_batch_size.
        classes: number of classes by the labels file; None where there is none.
        preprocessing: what the model wants done to an image.
        input: ``pixels`` to take uint8 images [crop, crop, 3] wherever the model or the backend can normalise them;
            ``tensor`` to take what the model file itself takes, mostly float32 [3, crop, crop], normalised.
        crop_open: the crop in ``preprocessing`` is a default, and gives way to the model's own size.
    """

    device: str
    path: Path
    runtime: str = "auto"
    precision: Precision = "auto"
    threads: int = 1
    max_batch_size: int = 16
    compiled_sizes: tuple[int, ...] | None = None
    classes: int | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    input: InputKind = "pixels"
    crop_open: bool = False


class Backend(Protocol):
    """A loaded model on a device, used by one thread.

    Attributes:
        name: the backend's name, for logs and metrics.
        precision: the arithmetic in force.
        simulated: True when no device runs.
        input: what one image looks like.
        classes: length of a row of scores.
        output_name: the name of the model's output.
        batch_sizes: the sizes to measure at warm-up, ascending. Where ``any_size`` is False, the only ones that can
            run; a smaller batch is padded to the next.
        any_size: True when every size up to the largest runs as it is.
    """

    name: str
    precision: str
    simulated: bool
    input: TensorSpec
    classes: int
    output_name: str
    batch_sizes: tuple[int, ...]
    any_size: bool

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a batch [n, *input.shape] and return the scores, float32 [n, classes].

        The result is valid until the next run.

        Raises:
            DeviceError: the process must not go on with this device.
            Exception: any other means that this batch cannot be run.
        """
        ...

    def figures(self) -> dict[str, float]:
        """Figures of its own for the metrics: a simulated device's sleep error in seconds; empty for others."""
        ...

    def close(self) -> None:
        """Give back what the backend holds; nothing is run afterwards."""
        ...


def power_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The sizes 1, 2, 4 ... up to and with ``max_batch_size``."""
    sizes = [1]
    while sizes[-1] * 2 <= max_batch_size:
        sizes.append(sizes[-1] * 2)
    if sizes[-1] != max_batch_size:
        sizes.append(max_batch_size)
    return tuple(sizes)


def image_specs(name: str, preprocessing: Preprocessing) -> tuple[TensorSpec, TensorSpec]:
    """The two inputs that a model may have: normalised float32 [3, crop, crop], or uint8 pixels [crop, crop, 3]."""
    crop = preprocessing.crop
    return (
        TensorSpec(name, "float32", (CHANNELS, crop, crop), "NCHW"),
        TensorSpec(name, "uint8", preprocessing.shape, "NHWC"),
    )


def fit_to_model(options: BackendOptions, shape: Sequence[int | None]) -> BackendOptions:
    """The options for a model's own image size, where the crop is open and the model has a fixed square one.

    Args:
        options: what was asked for.
        shape: of the model's input, batch first; None for a side that the model leaves open.
    """
    if not options.crop_open or len(shape) != _IMAGE_DIMENSIONS:
        return options
    height, width = shape[2:] if shape[1] == CHANNELS else shape[1:3]
    return options if height is None or height != width else replace(options, preprocessing=_fit(options, height))


def _fit(options: BackendOptions, crop: int) -> Preprocessing:
    """The guide's resize of 256 belongs to its crop of 224; another crop keeps that ratio."""
    return options.preprocessing.model_copy(update={"crop": crop, "resize": round(crop * 256 / 224)})


def preprocessing_of(options: BackendOptions, spec: TensorSpec) -> Preprocessing:
    """What is to be done to an image for a loaded model: as asked, or for the model's own size where that was open."""
    crop = spec.shape[-2] if spec.layout == "NHWC" else spec.shape[-1]
    return _fit(options, crop) if options.crop_open and crop != options.preprocessing.crop else options.preprocessing
