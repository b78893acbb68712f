"""What became of a frontend's requests, by model version."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from repserve_server.statistics import Body, ModelStatistics

if TYPE_CHECKING:
    from repserve_server.dataplane.scores import ImageScores


class Attempt:
    """A request to a model version, as a ``with`` block: it fails with an exception unless it has succeeded before."""

    __slots__ = ("_clock", "_counts", "_started")

    def __init__(self, counts: ModelStatistics, clock: Callable[[], float]) -> None:
        self._counts, self._clock = counts, clock
        self._started = clock()

    def succeed(self, images: Sequence[ImageScores], decode_seconds: float) -> float:
        """Count a request that is answered; returns the seconds since the device's last answer to it.

        Queue and compute are those of the image that was answered last: a request of many images may run in several
        batches, one after the other.
        """
        now = self._clock()
        last = max(images, key=lambda image: image.finished)
        counts = self._counts
        counts.inferences += len(images)
        counts.last_inference = int(time.time() * 1000)
        counts.success.add(now - self._started)
        counts.queue.add(last.queue_seconds)
        counts.compute_input.add(decode_seconds)
        counts.compute_infer.add(last.compute_seconds)
        counts.compute_output.add(now - last.finished)
        return max(0.0, now - last.finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._counts.fail.add(self._clock() - self._started)


class Statistics:
    """The counts of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str], ModelStatistics] = {}

    def attempt(self, model: str, version: str) -> Attempt:
        """Begin to count a request."""
        return Attempt(self._find(model, version), self._clock)

    def to_body(self) -> Body:
        """The counts as the content of a control message."""
        return [counts.to_body() for counts in self._counts.values()]

    def _find(self, model: str, version: str) -> ModelStatistics:
        counts = self._counts.get((model, version))
        if counts is None:
            counts = self._counts[model, version] = ModelStatistics(model, version)
        return counts
