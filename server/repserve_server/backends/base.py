"""The contract between a worker and whatever runs its model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Precision = Literal["auto", "f32", "bf16"]


class BackendError(RepServeError):
    """The model cannot be loaded or run on this device; the message says what to do."""


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
        device: as the server was told: ``cpu``, ``sim:310p``.
        folder: the version's folder in the model repository.
        runtime: ``auto`` or the name of a backend.
        precision: arithmetic wanted; ``auto`` is what the device does fastest.
        threads: CPU threads the backend may use.
        max_batch: the largest batch to offer.
        compiled_sizes: sizes the model is compiled for, where the device needs fixed ones; None for 1 and max_batch.
        classes: number of classes by the labels file; None where there is none.
        preprocessing: what the model wants done to an image.
    """

    device: str
    folder: Path
    runtime: str = "auto"
    precision: Precision = "auto"
    threads: int = 1
    max_batch: int = 16
    compiled_sizes: tuple[int, ...] | None = None
    classes: int | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


class Backend(Protocol):
    """A loaded model on a device, used by one thread.

    Attributes:
        name: the backend's name, for logs and metrics.
        precision: the arithmetic in force.
        simulated: True when no device runs.
        input: what one image looks like.
        classes: length of a row of scores.
        batch_sizes: the sizes to measure at warm-up, ascending. Where ``any_size`` is False, the only ones that can
            run; a smaller batch is padded to the next.
        any_size: True when every size up to the largest runs as it is.
    """

    name: str
    precision: str
    simulated: bool
    input: TensorSpec
    classes: int
    batch_sizes: tuple[int, ...]
    any_size: bool

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a batch [n, *input.shape] and return the scores, float32 [n, classes].

        The result is valid until the next run.
        """
        ...

    def figures(self) -> dict[str, float]:
        """Figures of its own for the metrics: a simulated device's sleep error in seconds; empty for others."""
        ...

    def close(self) -> None:
        """Give back what the backend holds; nothing is run afterwards."""
        ...


def power_sizes(max_batch: int) -> tuple[int, ...]:
    """The sizes 1, 2, 4 ... up to and with ``max_batch``."""
    sizes = [1]
    while sizes[-1] * 2 <= max_batch:
        sizes.append(sizes[-1] * 2)
    if sizes[-1] != max_batch:
        sizes.append(max_batch)
    return tuple(sizes)


def find_onnx(folder: Path) -> Path:
    """The ONNX model of a version folder.

    Raises:
        BackendError: there is none.
    """
    path = folder / "model.onnx"
    if not path.is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
        raise BackendError(f"{folder} holds no model.onnx (found: {found}); this device runs ONNX models")
    return path
