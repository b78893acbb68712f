"""Metrics of several processes as one: each keeps an ordinary registry, the supervisor merges snapshots of them.

A snapshot is plain data that fits into a control message. Counters and histograms of a process that ended stay in the
sums, so that totals never fall; its gauges go, except timestamps. The series of a model version go when it is unloaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_TIMESTAMP = "_timestamp_seconds"
"""How the names of gauges end that hold a time; the latest of several processes counts."""


class Sample(NamedTuple):
    """The value of a series."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Family:
    """A metric with the series of one process."""

    name: str
    type: str
    help: str
    samples: tuple[Sample, ...]


Snapshot = Sequence[Family]
_Sums: TypeAlias = dict[tuple[str, ...], tuple[dict[str, str], float]]
"""Labels and value of each series, by its name and the values of its labels, which are in the same order everywhere."""


def take_snapshot(registry: CollectorRegistry) -> tuple[Family, ...]:
    """Collect what a process's registry holds now."""
    return tuple(collect_families(registry))


def collect_families(registry: CollectorRegistry) -> Iterator[Family]:
    """Collect the families of a snapshot one after the other."""
    for family in registry.collect():
        samples = tuple(Sample(sample.name, sample.labels, sample.value) for sample in family.samples)
        yield Family(family.name, family.type, family.documentation, samples)


class MergedCollector(Collector):
    """The sum over processes of their last snapshots, as a collector for one registry."""

    def __init__(self) -> None:
        self._live: dict[str, Snapshot] = {}
        self._ended: _Sums = {}
        self._families: dict[str, tuple[str, str]] = {}

    def update(self, process: str, snapshot: Snapshot) -> None:
        """Take a process's newest snapshot."""
        self._live[process] = snapshot
        for family in snapshot:
            self._families[family.name] = (family.type, family.help)

    def end(self, process: str) -> None:
        """Keep the totals and timestamps of a process that ended, drop its other gauges."""
        for family in self._live.pop(process, []):
            if family.type != "gauge" or family.name.endswith(_TIMESTAMP):
                _add(self._ended, family.samples)

    def forget(self, labels: Mapping[str, str]) -> None:
        """Drop the series that carry these labels; a process that goes on counting them brings its own back."""
        self._ended = {key: found for key, found in self._ended.items() if not labels.items() <= found[0].items()}
        for process, snapshot in self._live.items():
            self._live[process] = [
                replace(
                    family,
                    samples=tuple(s for s in family.samples if not labels.items() <= s.labels.items()),
                )
                for family in snapshot
            ]

    def collect(self) -> Iterator[Metric]:
        """One family for each name, summed over live and ended processes."""
        yield from self._sum()

    def samples(self, names: Collection[str]) -> list[Sample]:
        """Return the current series of these names: name, labels, value."""
        return [
            Sample(sample.name, dict(sample.labels), sample.value)
            for metric in self._sum()
            for sample in metric.samples
            if sample.name in names
        ]

    def _sum(self) -> Iterator[Metric]:
        sums = dict(self._ended)
        owner: dict[str, str] = {}
        for snapshot in self._live.values():
            for family in snapshot:
                _add(sums, family.samples)
        for name, (kind, _) in self._families.items():
            owner.update(dict.fromkeys(_sample_names(name, kind), name))
        metrics = {name: Metric(name, text, kind) for name, (kind, text) in self._families.items()}
        for key, (labels, value) in sums.items():
            metrics[owner[key[0]]].add_sample(key[0], labels, value)
        yield from metrics.values()


def _sample_names(family: str, kind: str) -> tuple[str, ...]:
    if kind == "counter":
        return (f"{family}_total",)
    if kind == "histogram":
        return (f"{family}_bucket", f"{family}_sum", f"{family}_count")
    return (f"{family}_info",) if kind == "info" else (family,)


def _add(sums: _Sums, samples: Iterable[Sample]) -> None:
    for name, labels, value in samples:
        key = (name, *labels.values())
        known = sums.get(key)
        before = known[1] if known else 0.0
        sums[key] = (labels, max(before, value) if name.endswith(_TIMESTAMP) else before + value)
