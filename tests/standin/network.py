"""The model on the stand-in's device: normalises where the file says so, and runs the ONNX on one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from standin.model_file import Header


class Network:
    """Runs batches of any size; the session knows which are allowed. Raises whatever ONNX Runtime does."""

    def __init__(self, header: Header, onnx: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._header = header
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def images(self, content: NDArray[np.uint8], batch: int) -> NDArray[np.generic]:
        """The bytes of an input as the device reads them: float32 NCHW or uint8 NHWC."""
        channels, height, width = self._header.shape
        if self._header.uint8:
            return content.reshape(batch, height, width, channels)
        return content.view(np.float32).reshape(batch, channels, height, width)

    def run(self, images: NDArray[np.generic]) -> NDArray[np.float32]:
        """Scores, float32 [n, classes]."""
        if self._header.aipp:
            # The order of AIPP: (pixel - min_chn) * var_reci_chn, and the channels come first after it.
            mean, reciprocal = (np.array(v, np.float32) for v in (self._header.mean, self._header.reciprocal))
            images = np.ascontiguousarray(((images.astype(np.float32) - mean) * reciprocal).transpose(0, 3, 1, 2))
        scores: NDArray[np.float32]
        (scores,) = self._session.run(None, {self._header.input_name: images})
        return scores
