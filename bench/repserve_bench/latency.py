"""Latencies as a few figures: percentiles, and a histogram whose bins grow with the latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from array import array

    from repserve_bench.tally import Tally

PERCENTILES = (50, 90, 95, 99, 99.9)
BINS_PER_DECADE = 20
SHORTEST_EXPONENT = -6
LONGEST_EXPONENT = 4


def percentiles(tally: Tally) -> dict[str, float | None]:
    """Returns the percentiles of the latencies in seconds, by names such as p99, and max."""
    found = {f"p{percent:g}": tally.percentile(percent) for percent in PERCENTILES}
    return {**found, "max": tally.percentile(100)}


def histogram(latencies: array[float]) -> dict[str, list[float] | list[int]]:
    """Counts latencies in bins of equal ratio, 20 for a factor of ten.

    Returns:
        ``edges`` in seconds, one more than ``counts``; from the first bin that holds one to the last.
    """
    if not latencies:
        return {"edges": [], "counts": []}
    bins = BINS_PER_DECADE * (LONGEST_EXPONENT - SHORTEST_EXPONENT) + 1
    edges = np.logspace(SHORTEST_EXPONENT, LONGEST_EXPONENT, bins)
    counts, _ = np.histogram(np.clip(np.array(latencies), edges[0], edges[-1]), edges)
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    return {
        "edges": [float(f"{edge:.4g}") for edge in edges[first : last + 1]],
        "counts": [int(count) for count in counts[first:last]],
    }
