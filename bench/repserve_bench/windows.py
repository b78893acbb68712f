"""Whether a measurement has settled: its figures in windows of time, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repserve_bench.tally import Tally

COMPARED = 3
"""Windows in a row that must agree; as many as perf_analyzer requires."""
TOLERANCE = 0.1
"""Largest accepted deviation of throughput and p99 from their means, as a share."""
MICROSECOND = 1e-6
"""Tolerance in seconds for the length of a run: one of exactly three windows has three."""


@dataclass(frozen=True)
class Window:
    """The figures of the requests that ended in a stretch of time."""

    requests: int
    """Answered requests."""
    per_second: float
    p50_seconds: float | None
    """As for the whole run, requests that were given up included. None if nothing ended."""
    p99_seconds: float | None


@dataclass(frozen=True)
class Stability:
    """The windows of a run, and whether they agree."""

    window_seconds: float
    windows: tuple[Window, ...]

    @property
    def last(self) -> tuple[Window, ...]:
        """The windows that are compared; fewer when the run was too short."""
        return self.windows[-COMPARED:]

    @property
    def stable(self) -> bool:
        """Whether the last windows agree in throughput and p99."""
        return not self.complaint

    @property
    def verdict(self) -> str:
        """stable, not stable, or too short to tell."""
        return self.complaint.partition(":")[0] or "stable"

    @property
    def complaint(self) -> str:
        """Why the run is not called stable; empty when it is."""
        if len(self.last) < COMPARED:
            return f"too short to tell: {len(self.windows)} windows of {self.window_seconds:g} s; {COMPARED} are needed"
        for name, values in (
            ("throughput", [window.per_second for window in self.last]),
            ("p99", [window.p99_seconds or 0.0 for window in self.last]),
        ):
            spread = spread_of(values)
            if spread > TOLERANCE:
                return (
                    f"not stable: {name} of the last {COMPARED} windows of {self.window_seconds:g} s deviates by "
                    f"up to {100 * spread:.0f} % from its mean; {100 * TOLERANCE:.0f} % is allowed"
                )
        return ""


def spread_of(values: Sequence[float]) -> float:
    """Return the largest distance from the mean, as a share of it; infinite where the mean is 0."""
    mean = sum(values) / len(values)
    return max(abs(value - mean) for value in values) / mean if mean else float("inf")


def cut_into_windows(tally: Tally, started: float, elapsed: float, length: float) -> Stability:
    """Cut a run into windows; what remains at its end is left out.

    Args:
        tally: What the run counted.
        started: ``time.monotonic()`` at its start.
        elapsed: Its seconds so far.
        length: Seconds of a window.
    """
    count = int((elapsed + MICROSECOND) // length)
    numbers = np.floor((np.array(tally.ended + tally.given_up_at) - started) / length)
    waited = np.array(tally.waited)
    answered = np.arange(len(waited)) < len(tally.ended)
    windows = []
    for number in range(count):
        inside = numbers == number
        requests = int(np.count_nonzero(inside & answered))
        percentiles: list[float | None] = [None, None]
        if inside.any():
            percentiles = [float(value) for value in np.percentile(waited[inside], (50, 99), method="inverted_cdf")]
        windows.append(Window(requests, requests / length, *percentiles))
    return Stability(length, tuple(windows))
