"""ONNX Runtime on the CPU: the second opinion, and the way to run a model that OpenVINO does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repserve_server.backends.base import (
    BackendError,
    BackendOptions,
    TensorSpec,
    fit_to_model,
    image_specs,
    power_sizes,
)
from repserve_server.imaging.normalise import normalise
from repserve_server.repository.model_files import find_onnx

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class OnnxRuntimeBackend:
    """An ONNX model in ONNX Runtime, float32; images are normalised here before each run, if the model does not."""

    name = "onnxruntime"
    precision = "f32"
    simulated = False
    any_size = True

    def __init__(self, options: BackendOptions) -> None:
        import onnxruntime

        if options.precision == "bf16":
            raise BackendError("precision = bf16, but ONNX Runtime runs float32 on a CPU; use f32 or openvino")
        path = find_onnx(options.path)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Threads that spin between runs would take the cores that the frontends decode on.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are not public
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        scores = session.get_outputs()[0]
        sides = [side if isinstance(side, int) else None for side in session.get_inputs()[0].shape]
        options = fit_to_model(options, sides)
        self.input = _check_input(session, path, options)
        self._normalise = options.input == "pixels" and self.input.dtype == "float32"
        if self._normalise:
            _, self.input = image_specs(self.input.name, options.preprocessing)
        self._preprocessing = options.preprocessing
        if not isinstance(scores.shape[1], int):
            raise BackendError(f"{path}: the output has shape {scores.shape}, expected [batch, classes]")
        self.classes = int(scores.shape[1])
        self.output_name = str(scores.name)
        self.batch_sizes = power_sizes(options.max_batch_size)
        self._session: Any = session

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """See ``Backend.run``."""
        if self._normalise:
            batch = normalise(batch.view("uint8"), self._preprocessing)
        scores: NDArray[np.float32] = self._session.run(None, {self.input.name: batch})[0]
        return scores.reshape(len(batch), self.classes)

    def figures(self) -> dict[str, float]:
        """See ``Backend.figures``."""
        return {}

    def close(self) -> None:
        """See ``Backend.close``."""
        self._session = None


def _check_input(session: Any, path: Path, options: BackendOptions) -> TensorSpec:  # noqa: ANN401 - it has no types
    """What the model file takes: normalised float32, or uint8 pixels that it normalises itself."""
    image = session.get_inputs()[0]
    dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}.get(image.type)
    for spec in image_specs(image.name, options.preprocessing):
        # A side that is not a number is one that the model leaves open.
        fits = len(image.shape) == 1 + len(spec.shape) and all(
            not isinstance(side, int) or side == wanted
            for side, wanted in zip(image.shape[1:], spec.shape, strict=True)
        )
        if fits and dtype == spec.dtype and len(session.get_inputs()) == 1:
            return spec
    crop = options.preprocessing.crop
    raise BackendError(
        f"{path}: the model's input is {image.name} {image.type} {image.shape}, expected one of tensor(float) "
        f"[batch, 3, {crop}, {crop}] or tensor(uint8) [batch, {crop}, {crop}, 3]; set crop in model.toml if it takes "
        "another size"
    )
