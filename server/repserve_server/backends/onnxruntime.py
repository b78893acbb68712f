"""ONNX Runtime on the CPU: the second opinion, and the way to run a model that OpenVINO does not support."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from repserve_server.backends.base import Backend, BackendError, BackendOptions, image_specs, power_sizes
from repserve_server.backends.onnx_input import OnnxInput, read_input
from repserve_server.imaging.normalise import normalise
from repserve_server.repository.model_files import find_onnx

_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class OnnxRuntimeBackend(Backend):
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
        inputs = [
            # A side that is not a number is open.
            OnnxInput(i.name, _DTYPES.get(i.type, i.type), tuple(s if isinstance(s, int) else None for s in i.shape))
            for i in session.get_inputs()
        ]
        self.input, options = read_input(path, inputs, options)
        self._normalise = options.input == "pixels" and self.input.dtype == "float32"
        if self._normalise:
            _, self.input = image_specs(self.input.name, options.preprocessing)
        self._preprocessing = options.preprocessing
        scores = session.get_outputs()[0]
        if not isinstance(scores.shape[1], int):
            raise BackendError(f"{path}: the output has shape {scores.shape}, expected [batch, classes]")
        self.classes = int(scores.shape[1])
        self.output_name = str(scores.name)
        self.batch_sizes = power_sizes(options.max_batch_size)
        self._session: Any = session

    @override
    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        if self._normalise:
            batch = normalise(batch.view("uint8"), self._preprocessing)
        scores: NDArray[np.float32] = self._session.run(None, {self.input.name: batch})[0]
        return scores.reshape(len(batch), self.classes)

    @override
    def close(self) -> None:
        self._session = None
