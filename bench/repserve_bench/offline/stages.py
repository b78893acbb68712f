"""How long the stages of a run took, measured as the images pass through."""

from __future__ import annotations

from dataclasses import dataclass, field

from repserve_bench.offline.perf_file import Throughput

LEAST_SECONDS = 1e-9
"""What a stage took at least, so that a clock too coarse to see it does not divide by zero."""


@dataclass
class Stage:
    """One stage: how much went through it, from when to when, and how long it was busy. Times in seconds."""

    count: int = 0
    busy: float = 0.0
    began: float = float("inf")
    ended: float = float("-inf")

    def add(self, began: float, ended: float, count: int = 1) -> None:
        """Counts something that passed through between two readings of the clock."""
        self.count += count
        self.busy += ended - began
        self.began = min(self.began, began)
        self.ended = max(self.ended, ended)

    @property
    def rate(self) -> float:
        """What passed through, by the seconds from the first beginning to the last end."""
        return self.count / max(self.ended - self.began, LEAST_SECONDS)


@dataclass
class Stages:
    """The stages of a run."""

    read: Stage = field(default_factory=Stage)
    preprocess: Stage = field(default_factory=Stage)
    infer: Stage = field(default_factory=Stage)
    interface: Stage = field(default_factory=Stage)
    """The model's calls within ``infer``."""
    post: Stage = field(default_factory=Stage)
    """Counts batches."""

    def throughput(self, seconds: float) -> Throughput:
        """Returns the figures of a run that is over.

        Args:
            seconds: What the whole run took.

        Raises:
            ValueError: No image passed through.
        """
        images = self.infer.count
        if not images:
            raise ValueError("there is no throughput without an image")
        return Throughput(
            end_to_end=images / max(seconds, LEAST_SECONDS),
            latency=1000 * max(seconds, LEAST_SECONDS),
            read=self.read.rate,
            preprocess=self.preprocess.rate,
            infer=self.infer.rate,
            interface=images / max(self.interface.busy, LEAST_SECONDS),
            infer_time=1000 * self.infer.busy / images,
            post=self.post.rate,
        )
