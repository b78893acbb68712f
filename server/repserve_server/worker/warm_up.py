"""Warm-up: run every batch size before the first request, and measure what each costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from repserve_server.backends.base import Backend, BackendError
from repserve_server.worker.planner import BatchCosts

_RUNS = 15
_ENOUGH_SECONDS = 0.2


def measure_costs(backend: Backend, clock: Callable[[], float] = time.perf_counter) -> BatchCosts:
    """Run each batch size, first untimed, then timed; the cost is the median.

    Large batches are timed fewer times, so that a restarted worker is soon back.

    Raises:
        BackendError: the scores have a wrong shape.
    """
    seconds: dict[int, float] = {}
    for size in backend.batch_sizes:
        images: NDArray[np.generic] = (
            np.random.default_rng(size).integers(0, 256, (size, *backend.input.shape)).astype(backend.input.dtype)
        )
        scores = backend.run(images)
        if scores.shape != (size, backend.classes):
            raise BackendError(f"a batch of {size} gave scores {scores.shape}, expected {(size, backend.classes)}")
        times: list[float] = []
        while len(times) < _RUNS and sum(times) < _ENOUGH_SECONDS:
            started = clock()
            backend.run(images)
            times.append(clock() - started)
        seconds[size] = statistics.median(times)
    return BatchCosts(seconds, any_size=backend.any_size)
