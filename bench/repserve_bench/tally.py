"""The counts of a replay, small enough for a load process to send several times a second."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field, fields

import numpy as np

from repserve_bench.accuracy import Accuracy

BINS_PER_DECADE = 20
SHORTEST_EXPONENT = -6
LONGEST_EXPONENT = 4


def _seconds() -> array[float]:
    return array("d")


@dataclass
class Tally:
    """Counts and latency samples of a part of a replay; ``merge`` adds another part."""

    requests: int = 0
    """Requests that have ended, answered or failed."""
    images: int = 0
    """Images that were answered."""
    latencies: array[float] = field(default_factory=_seconds)
    """Seconds until the answer of each answered request, retries included: from its first sending in a closed
    loop, from when it was due in an open one."""
    ended: array[float] = field(default_factory=_seconds)
    """``time.monotonic()`` of each of these answers."""
    given_up: array[float] = field(default_factory=_seconds)
    """Seconds that each request waited that timed out or was cut off by the end of the replay."""
    given_up_at: array[float] = field(default_factory=_seconds)
    """``time.monotonic()`` of each of these ends."""
    unanswered: int = 0
    """Those of them that were cut off by the end of the replay; they are not failures."""
    send_lag_seconds: float = 0.0
    """Seconds by which requests were sent late, in total; caused by the client, not by the server."""
    worst_send_lag: float = 0.0
    worst_hold: float = 0.0
    """Longest time that a request was held back by the limit of requests in flight; caused by the server."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Ended requests by gRPC status name, OK included."""
    retries: Counter[str] = field(default_factory=Counter)
    """Attempts that were made again, by the status that caused it."""
    failures: dict[str, str] = field(default_factory=dict)
    """The first message seen of each status that failed a request."""
    accuracy: Accuracy = field(default_factory=Accuracy)
    changed_answers: int = 0
    """Images whose best class was not that of the same image's first answer in this replay."""
    versions: Counter[str] = field(default_factory=Counter)
    """Images by the model version that answered."""
    batch_sizes: Counter[int] = field(default_factory=Counter)
    """Answered images by the size of the batch they rode in, where the server reports it."""
    decode_seconds: float = 0.0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Requests that ended with another status than OK."""
        return self.requests - self.statuses["OK"]

    def give_up(self, due: float, now: float) -> None:
        """Count how long a request that was due then has waited without an answer."""
        self.given_up.append(now - due)
        self.given_up_at.append(now)

    @property
    def waited(self) -> array[float]:
        """Seconds that clients waited: until an answer, a time-out or the end."""
        return self.latencies + self.given_up

    @property
    def mean_batch_size(self) -> float | None:
        """Mean over the images of the size of the batch each rode in; None where the server does not report it."""
        images = self.batch_sizes.total()
        return sum(size * count for size, count in self.batch_sizes.items()) / images if images else None

    def merge(self, other: Tally) -> None:
        """Add the counts and samples of another part."""
        worst = {name: max(getattr(self, name), getattr(other, name)) for name in ("worst_send_lag", "worst_hold")}
        failures = other.failures | self.failures
        self.accuracy.merge(other.accuracy)
        for field_ in fields(self):
            mine, theirs = getattr(self, field_.name), getattr(other, field_.name)
            match mine:
                case array():
                    mine.extend(theirs)
                case Counter():
                    mine.update(theirs)
                case int() | float():
                    setattr(self, field_.name, mine + theirs)
        self.failures, self.worst_send_lag, self.worst_hold = failures, worst["worst_send_lag"], worst["worst_hold"]

    def percentile(self, percent: float) -> float | None:
        """Return the nearest-rank percentile of the latencies in seconds; None without a sample.

        A request that timed out counts with the time it waited: without it, a server that stalls would seem fast.
        """
        waited = self.waited
        return float(np.percentile(np.array(waited), percent, method="inverted_cdf")) if waited else None

    def mean_per_image(self, total: float) -> float | None:
        """Return ``total``, a stage's seconds, over the answered images; None where the server reports no stages."""
        return total / self.images if self.batch_sizes else None


def histogram(latencies: array[float]) -> dict[str, list[float] | list[int]]:
    """Count latencies in bins of equal ratio, 20 for a factor of ten.

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
