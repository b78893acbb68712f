"""Runtimes for the tests that fail in ways a real device can: given to the server as ``--runtime module:Class``."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.backends.base import BackendOptions, DeviceError, TensorSpec
from support.devices import take_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOSE_DEVICE, HANG, CRASH, NOT_A_NUMBER, FAIL = 249, 250, 251, 252, 253
"""A first pixel of this value makes the runtime do that."""
CLASSES = 4


class FaultyRuntime:
    """Answers with the class ``first pixel modulo 4``, after 2 ms, unless the first pixel orders a fault."""

    name = "faulty"
    precision = "f32"
    simulated = False
    any_size = False
    output_name = "scores"

    def __init__(self, options: BackendOptions) -> None:
        self.input = TensorSpec("image", "uint8", options.preprocessing.shape, "NHWC")
        self.classes = CLASSES
        self.batch_sizes = (1, options.max_batch_size)

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run, or fail as ordered."""
        orders = batch.reshape(len(batch), -1)[:, 0].astype(int)
        if (orders == CRASH).any():
            os.abort()
        while (orders == HANG).any():
            ctypes.PyDLL(None).pause()  # with Python's lock held, as a device's runtime does
        if (orders == LOSE_DEVICE).any():
            raise DeviceError("the device was lost")
        if (orders == FAIL).any():
            raise RuntimeError("[-1][ACL: general failure] ")
        take_time(0.002)
        scores = np.zeros((len(batch), CLASSES), np.float32)
        scores[np.arange(len(batch)), orders % CLASSES] = 5.0
        scores[orders == NOT_A_NUMBER] = np.nan
        return scores

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to give back."""
