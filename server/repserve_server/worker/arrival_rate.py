"""The recent rate of arrivals at a worker, which the planner expects to continue."""

from __future__ import annotations

import math

from repserve_server.worker.planner import BatchCosts

_MEMORY_RUNS = 100
"""Memory in runs of the largest batch, 0.2 s on a 310P: long enough to know the rate to some 5 %, short enough to
follow a load that changes."""


class ArrivalRate:
    """A mean over the recent past, in which an arrival counts the less the longer ago it was.

    It starts at zero, so that the first images of a quiet worker do not look like a flood.
    """

    def __init__(self, memory: float) -> None:
        """``memory``: seconds after which an arrival counts 1/e of what it did."""
        self._memory = memory
        self._arrivals = 0.0
        self._counted_at = -math.inf

    @classmethod
    def for_costs(cls, costs: BatchCosts) -> ArrivalRate:
        """Make one whose memory suits this device's planner."""
        return cls(_MEMORY_RUNS * costs.seconds[costs.largest])

    def add(self, images: int, now: float) -> None:
        """Count images that arrived up to ``now``, in seconds."""
        self._arrivals = self._weight(now) * self._arrivals + images
        self._counted_at = now

    def per_second(self, now: float) -> float:
        """Return images a second at the time ``now``, in seconds."""
        return self._weight(now) * self._arrivals / self._memory

    def _weight(self, now: float) -> float:
        return math.exp((self._counted_at - now) / self._memory)
