"""A pretended device, slow enough to be the limit on any machine: ``--runtime slow_device:Device``.

It says that it is simulated wherever it is named.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.backends.base import DEFAULT_OUTPUT_NAME, BackendOptions, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN_SECONDS = 0.064
"""Of a run, whatever its size: 250 images a second in batches of 16."""
CLASSES = 4


class Device:
    """Takes its time and answers the same for every image."""

    name = "slow_device"
    precision = "none"
    simulated = True
    any_size = False
    output_name = DEFAULT_OUTPUT_NAME

    def __init__(self, options: BackendOptions) -> None:
        self.input = TensorSpec("image", "uint8", options.preprocessing.shape, "NHWC")
        self.classes = CLASSES
        self.batch_sizes = (options.max_batch_size,)

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """See ``Backend.run``."""
        threading.Event().wait(RUN_SECONDS)
        return np.tile(np.arange(CLASSES, dtype=np.float32), (len(batch), 1))

    def figures(self) -> dict[str, float]:
        """See ``Backend.figures``."""
        return {}

    def close(self) -> None:
        """See ``Backend.close``."""
