"""Simulated devices: published times, no chip, made-up scores.

They replace hardware for measurements of the server itself. Everything that shows their figures says SIMULATED.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from repserve_server.backends.base import DEFAULT_OUTPUT_NAME, Backend, BackendError, BackendOptions, image_specs
from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.process import set_timer_slack

DEFAULT_CLASSES = 1000
_SAMPLED_BYTES = 64


@dataclass
class SleepError:
    """How far the device's sleeps ended from their schedule, in seconds."""

    runs: int = 0
    total: float = 0.0
    largest: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one run's lateness."""
        self.runs += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)


class SimulatedBackend(Backend):
    """A device with the run times of the guide's table, and scores made up from the images' bytes.

    A run ends at a time on an absolute schedule. Waking up is always a little late; a run that follows at once starts
    where the last one was due to end, so that the lateness does not add up; ``sleep_error`` measures it. At most
    one run's time is made up for: a host that stood still for longer has lost that time, as with a real device, which
    also idles while the host works between two runs.
    """

    name = "simulated"
    precision = "none"
    simulated = True
    any_size = False

    def __init__(
        self,
        options: BackendOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        chip = options.device.removeprefix("sim:")
        if chip not in PUBLISHED_DEVICES:
            known = ", ".join(f"sim:{name}" for name in sorted(PUBLISHED_DEVICES))
            raise BackendError(f"device {options.device!r} is not known; simulated devices are {known}")
        self._device = PUBLISHED_DEVICES[chip]
        self._clock, self._sleep = clock, sleep
        tensor, pixels = image_specs("simulated", options.preprocessing)
        self.input = tensor if options.input == "tensor" else pixels
        self.classes = options.classes or DEFAULT_CLASSES
        self.output_name = DEFAULT_OUTPUT_NAME
        sizes = options.compiled_sizes or (1, options.max_batch_size)
        self.batch_sizes = tuple(sorted({size for size in sizes if size <= options.max_batch_size} | {1}))
        self.sleep_error = SleepError()
        self._woke = self._lateness = 0.0
        self._noise = np.random.default_rng(0).random((256, self.classes), dtype=np.float32)
        set_timer_slack(1)

    @override
    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        called = self._clock()
        seconds = self._device.batch_seconds(len(batch))
        follows_at_once = called - self._woke < seconds
        due = called + seconds - (min(self._lateness, seconds) if follows_at_once else 0.0)
        scores = self._make_up_scores(batch)
        remaining = due - self._clock()
        if remaining > 0:
            self._sleep(remaining)
        self._woke = self._clock()
        self._lateness = self._woke - due
        self.sleep_error.add(self._lateness)
        return scores

    @override
    def figures(self) -> dict[str, float]:
        error = self.sleep_error
        return {"mean": error.total / max(1, error.runs), "max": error.largest}

    def _make_up_scores(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Logits that depend on some of an image's bytes only, so that equal images get equal answers."""
        pixels = np.ascontiguousarray(batch).reshape(len(batch), -1).view(np.uint8)
        sample = pixels[:, :: max(1, pixels.shape[1] // _SAMPLED_BYTES)].astype(np.uint32)
        weights = np.arange(1, sample.shape[1] + 1, dtype=np.uint32)
        digest = sample @ weights
        scores = self._noise[digest % 256].copy()
        scores[np.arange(len(batch)), digest % self.classes] += 10.0
        return scores
