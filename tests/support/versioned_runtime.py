"""A runtime whose answers tell which version gave them: ``--runtime support.versioned_runtime:Runtime``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.backends.base import BackendError, BackendOptions, TensorSpec
from support.devices import take_time

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = 64
RUN_SECONDS = float(os.environ.get("VERSIONED_RUN_SECONDS", "0.004"))
BATCH = 16


class Runtime:
    """Answers with the class ``first pixel + 7 * version, modulo 64``, after RUN_SECONDS however large the batch."""

    name = "versioned"
    precision = "f32"
    simulated = False
    any_size = False
    output_name = "scores"

    def __init__(self, options: BackendOptions) -> None:
        content = (options.path / "model.onnx").read_text(encoding="utf-8")
        if content != "good":
            raise BackendError(f"the model is {content}")
        self.input = TensorSpec("image", "uint8", options.preprocessing.shape, "NHWC")
        self.classes = CLASSES
        self.batch_sizes = (1, options.max_batch_size)
        self._version = int(options.path.name)

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """See ``Backend.run``."""
        take_time(RUN_SECONDS)
        scores = np.zeros((len(batch), CLASSES), np.float32)
        first = batch.reshape(len(batch), -1)[:, 0].astype(int)
        scores[np.arange(len(batch)), expected_class(first, self._version)] = 5.0
        return scores

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to give back."""


def expected_class(first_pixel: NDArray[np.signedinteger] | int, version: int) -> NDArray[np.signedinteger] | int:
    """The class of an image with this first pixel."""
    return (first_pixel + 7 * version) % CLASSES


def add_version(model: Path, version: int, content: str = "good") -> None:
    """Put a version into a model's folder, whole from the first moment."""
    hidden = model / f".{version}"
    hidden.mkdir(parents=True)
    (hidden / "model.onnx").write_text(content, encoding="utf-8")
    hidden.rename(model / str(version))


def make_model(repository: Path, *versions: int, name: str = "versioned", toml: str = "") -> Path:
    """A model whose images are 8 by 8 pixels, so that requests cost next to nothing; returns its folder."""
    model = repository / name
    model.mkdir(parents=True)
    (model / "model.toml").write_text(f"{toml}\n[preprocessing]\nresize = 8\ncrop = 8\n", encoding="utf-8")
    for version in versions:
        add_version(model, version)
    return model
