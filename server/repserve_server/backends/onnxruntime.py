"""ONNX Runtime on the CPU: the second opinion, and the way to run a model that OpenVINO does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repserve_server.backends.base import BackendError, BackendOptions, TensorSpec, find_onnx, power_sizes
from repserve_server.imaging.normalise import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_NCHW = "NCHW"


class OnnxRuntimeBackend:
    """An ONNX model in ONNX Runtime, float32; images are normalised here before each run."""

    name = "onnxruntime"
    precision = "f32"
    simulated = False
    any_size = True

    def __init__(self, options: BackendOptions) -> None:
        import onnxruntime

        if options.precision == "bf16":
            raise BackendError("precision = bf16, but ONNX Runtime runs float32 on a CPU; use f32 or openvino")
        path = find_onnx(options.folder)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Threads that spin between runs would take the cores that the frontends decode on.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception types are not public
            raise BackendError(f"ONNX Runtime cannot load {path}: {error}") from error
        image, scores = session.get_inputs()[0], session.get_outputs()[0]
        self._preprocessing = options.preprocessing
        crop = self._preprocessing.crop
        # A side that is not a number is one that the model leaves open.
        fits = len(image.shape) == len(_NCHW) and all(
            not isinstance(side, int) or side == wanted
            for side, wanted in zip(image.shape[1:], (3, crop, crop), strict=True)
        )
        if len(session.get_inputs()) != 1 or not fits:
            raise BackendError(
                f"{path}: the model's input is {image.name} {image.type} {image.shape}, expected one of "
                f"tensor(float) [batch, 3, {crop}, {crop}]; set crop in model.toml if it takes another size"
            )
        if not isinstance(scores.shape[1], int):
            raise BackendError(f"{path}: the output has shape {scores.shape}, expected [batch, classes]")
        self.input = TensorSpec(image.name, "uint8", self._preprocessing.shape, "NHWC")
        self.classes = int(scores.shape[1])
        self.batch_sizes = power_sizes(options.max_batch)
        self._session: Any = session

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """See ``Backend.run``."""
        tensor = normalise(batch.view("uint8"), self._preprocessing)
        scores: NDArray[np.float32] = self._session.run(None, {self.input.name: tensor})[0]
        return scores.reshape(len(batch), self.classes)

    def figures(self) -> dict[str, float]:
        """See ``Backend.figures``."""
        return {}

    def close(self) -> None:
        """See ``Backend.close``."""
        self._session = None
