"""The contract between a worker and the runtime of its model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import CHANNELS, Preprocessing

Precision = Literal["auto", "f32", "bf16"]
InputKind = Literal["pixels", "tensor"]
DEFAULT_OUTPUT_NAME = "scores"
"""Of a model that gives its output no name."""


class BackendError(RepServeError):
    """The model cannot be loaded or run on this device; the message says what to do."""


class DeviceError(BackendError):
    """The device failed and this process must not use it any more; its worker is replaced by a new one."""


@dataclass(frozen=True)
class TensorSpec:
    """A model's input: its name, and dtype, shape and layout of one image."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str


@dataclass(frozen=True)
class BackendOptions:
    """What to load, and how.

    Attributes:
        device: as in the settings: ``cpu``, ``npu:0``, ``sim:310p``.
        path: the version's folder in the model repository, or one model file.
        runtime: ``auto`` or the name of a backend.
        precision: the arithmetic; ``auto`` is the fastest of the device.
        threads: CPU threads the backend may use.
        max_batch_size: the largest batch to run.
        compiled_sizes: sizes the model is compiled for, where the device needs fixed ones; None for 1 and
            max_batch_size.
        classes: number of classes by the labels file; None where there is none.
        preprocessing: how images are prepared for the model.
        input: ``pixels`` to take uint8 images [crop, crop, 3] wherever the model or the backend can normalise them;
            ``tensor`` to take what the model file itself takes, mostly float32 [3, crop, crop], normalised.
        crop_open: the crop in ``preprocessing`` is a default, which the model's own image size replaces.
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

    A class that is named as ``package.module:Class`` in the settings is made with ``BackendOptions`` as its only
    argument.

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
        """Return figures of its own for the metrics: a simulated device's sleep error in seconds; empty for others."""
        return {}

    def close(self) -> None:
        """Release what the backend holds; nothing is run afterwards."""
        return


def power_sizes(max_batch_size: int) -> tuple[int, ...]:
    """List the powers of two below ``max_batch_size``, and that size itself."""
    powers = (1 << power for power in range(max_batch_size.bit_length()))
    return (*(size for size in powers if size < max_batch_size), max_batch_size)


def image_specs(name: str, preprocessing: Preprocessing) -> tuple[TensorSpec, TensorSpec]:
    """Return a model's two possible inputs: normalised float32 [3, crop, crop], or uint8 pixels [crop, crop, 3]."""
    crop = preprocessing.crop
    return (
        TensorSpec(name, "float32", (CHANNELS, crop, crop), "NCHW"),
        TensorSpec(name, "uint8", preprocessing.shape, "NHWC"),
    )


def fit_crop(preprocessing: Preprocessing, crop: int) -> Preprocessing:
    """Change the crop; the resize keeps the guide's ratio of 256 to 224."""
    return preprocessing.model_copy(update={"crop": crop, "resize": round(crop * 256 / 224)})


def preprocessing_of(options: BackendOptions, spec: TensorSpec) -> Preprocessing:
    """Return a loaded model's preprocessing: that of the options, or for its own image size where the crop is open."""
    crop = spec.shape[-2] if spec.layout == "NHWC" else spec.shape[-1]
    wanted = options.preprocessing
    return fit_crop(wanted, crop) if options.crop_open and crop != wanted.crop else wanted
