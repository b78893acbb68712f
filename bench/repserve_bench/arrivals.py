"""When requests are due: as answers come (closed loop), or by a clock that does not wait for them (open loop)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Distribution = Literal["constant", "poisson"]


@dataclass(frozen=True)
class Arrivals:
    """The arrivals of an open loop: requests of independent users.

    In a closed loop a server that stalls receives nothing during the stall, so only a few requests show it
    (coordinated omission). Here requests stay due during a stall, and each is timed from when it was due.
    """

    rate: float
    """Requests a second, on average."""
    distribution: Distribution = "poisson"
    first: float = 0.0
    """Seconds until the first request of a constant rate."""
    seed: int = 0

    def offsets(self) -> Iterator[float]:
        """Yield, without end, the seconds after the start at which requests are due."""
        if self.distribution == "constant":
            number = 0
            while True:
                yield self.first + number / self.rate
                number += 1
        gaps = random.Random(self.seed)  # noqa: S311 - traffic, not secrets
        due = 0.0
        while True:
            due += gaps.expovariate(self.rate)
            yield due

    def share(self, process: int, processes: int) -> Arrivals:
        """Return the arrivals that one of several processes makes.

        Together they are what one alone would make: constant rates are interleaved, and Poisson processes
        add up to a Poisson process.
        """
        return Arrivals(
            rate=self.rate / processes,
            distribution=self.distribution,
            first=process / self.rate,
            seed=self.seed * processes + process,
        )
