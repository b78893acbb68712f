"""A simulated device, slow enough to be the limit on any machine: ``--runtime slow_device:Device``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from repserve_server.backends.base import DEFAULT_OUTPUT_NAME, Backend, BackendOptions, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN_SECONDS = 0.064
"""Of a run of any size: 250 images a second in batches of 16."""
CLASSES = 4


class Device(Backend):
    """Sleeps for each run, and gives every image the same scores."""

    name = "slow_device"
    precision = "none"
    simulated = True
    any_size = False
    output_name = DEFAULT_OUTPUT_NAME

    def __init__(self, options: BackendOptions) -> None:
        self.input = TensorSpec("image", "uint8", options.preprocessing.shape, "NHWC")
        self.classes = CLASSES
        self.batch_sizes = (options.max_batch_size,)

    @override
    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        time.sleep(RUN_SECONDS)
        return np.tile(np.arange(CLASSES, dtype=np.float32), (len(batch), 1))

    @override
    def figures(self) -> dict[str, float]:
        return {}

    @override
    def close(self) -> None:
        """Has nothing to close."""
