"""One worker and its device in simulated time: images arrive, wait, are run in batches and answered.

The loop is that of ``repserve_server.worker.loop``: take in all that has arrived, choose, run, answer. Time jumps from
event to event; nothing sleeps. A run takes exactly what its size costs, and the host's own work takes no time.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from planning.policies import Policy

WARM_UP = 0.1
"""Share of the arrivals, from the start, that is left out of the figures."""


@dataclass(frozen=True)
class Figures:
    """What one simulation gave, the warm-up left out; latencies in seconds from arrival to answer."""

    mean: float
    p50: float
    p99: float
    utilisation: float
    """Share of the time in which the device ran."""
    mean_batch: float
    """Images in a run."""
    padding: float
    """Share of the rows run that held no image."""


def poisson_arrivals(rate: float, images: int, seed: int) -> NDArray[np.float64]:
    """Return the times, in seconds, at which images arrive at random, ``rate`` a second on average.

    The same seed gives the same pattern at every rate, stretched: differences between loads are less noisy.
    """
    return np.cumsum(np.random.default_rng(seed).exponential(1.0, images)) / rate


def simulate(arrivals: NDArray[np.float64], seconds: Mapping[int, float], policy: Policy) -> Figures:
    """Run until every image is answered.

    Args:
        arrivals: float64 [images], when each arrives, in seconds, rising.
        seconds: what a run of each size costs.
        policy: chooses the runs.
    """
    times: list[float] = arrivals.tolist()
    images = len(times)
    first = int(WARM_UP * images)
    latencies = np.zeros(images)
    waiting: list[int] = []
    arrived = answered = rows = taken = runs = 0
    now = started = busy = 0.0
    while answered < images:
        if not waiting:
            now = max(now, times[arrived])
        known = bisect_right(times, now, arrived)
        if known > arrived:
            policy.take_in(known - arrived, now)
            waiting.extend(range(arrived, known))
            arrived = known
        chosen = policy.choose([times[image] for image in waiting], now)
        if isinstance(chosen, float):
            now = min(chosen, times[arrived]) if arrived < images else chosen
            continue
        batch = [waiting[position] for position in chosen.take]
        gone = set(chosen.take)
        waiting = [image for position, image in enumerate(waiting) if position not in gone]
        now += seconds[chosen.size]
        for image in batch:
            latencies[image] = now - times[image]
        if answered < first:
            started = now
        else:
            busy += seconds[chosen.size]
            rows, taken, runs = rows + chosen.size, taken + len(batch), runs + 1
        answered += len(batch)
    measured = latencies[first:]
    p50, p99 = np.percentile(measured, (50, 99), method="inverted_cdf")
    return Figures(
        mean=float(measured.mean()),
        p50=float(p50),
        p99=float(p99),
        utilisation=busy / (now - started),
        mean_batch=taken / runs,
        padding=1 - taken / rows,
    )
