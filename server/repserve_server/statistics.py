"""Statistics of model versions: counted in every process, added up by the supervisor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Body = list[dict[str, Any]]
"""Statistics in a control message."""


@dataclass
class Duration:
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    nanoseconds: int = 0

    def add(self, seconds: float) -> None:
        """Count once more."""
        self.count += 1
        self.nanoseconds += max(0, round(seconds * 1e9))


@dataclass
class ModelStatistics:
    """What became of a model version's requests since the server started, over all frontends and workers.

    Attributes:
        name: the model.
        version: its version.
        last_inference: milliseconds since the epoch; 0 for never.
        inferences: images that were classified.
        success: requests that were answered, from arrival to answer.
        fail: requests that failed, likewise.
        queue: for requests answered: from being ready for the device until the batch started.
        compute_input: decoding, resizing and cropping.
        compute_infer: time on the device.
        compute_output: from the device's answer to the request's.
        batches: runs on the device by the number of images in them, padding not counted.
    """

    name: str
    version: str
    last_inference: int = 0
    inferences: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> ModelStatistics:
        """The statistics from a control message (``to_body`` on the other side)."""
        durations = {
            key: Duration(**value) for key, value in body.items() if isinstance(value, dict) and key != "batches"
        }
        batches = {int(size): Duration(**value) for size, value in body["batches"].items()}
        return cls(**{**body, **durations, "batches": batches})

    def to_body(self) -> dict[str, Any]:
        """The statistics as the content of a control message."""
        return asdict(self)


class StatisticsTotals:
    """The sum over processes of their last counts; those of a process that ended stay in it."""

    def __init__(self) -> None:
        self._live: dict[str, list[ModelStatistics]] = {}
        self._ended: list[ModelStatistics] = []

    def update(self, process: str, body: Body) -> None:
        """Take a process's newest counts."""
        self._live[process] = [ModelStatistics.from_body(entry) for entry in body]

    def end(self, process: str) -> None:
        """Keep the counts of a process that ended."""
        self._ended = _sum([*self._ended, *self._live.pop(process, [])])

    def totals(self) -> list[ModelStatistics]:
        """The sums, by model and version."""
        return _sum([*self._ended, *(entry for entries in self._live.values() for entry in entries)])


def _sum(entries: Iterable[ModelStatistics]) -> list[ModelStatistics]:
    sums: dict[tuple[str, str], ModelStatistics] = {}
    for entry in entries:
        total = sums.setdefault((entry.name, entry.version), ModelStatistics(entry.name, entry.version))
        total.last_inference = max(total.last_inference, entry.last_inference)
        total.inferences += entry.inferences
        for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
            _merge(getattr(total, name), getattr(entry, name))
        for size, runs in entry.batches.items():
            _merge(total.batches.setdefault(size, Duration()), runs)
    return list(sums.values())


def _merge(total: Duration, part: Duration) -> None:
    total.count += part.count
    total.nanoseconds += part.nanoseconds
