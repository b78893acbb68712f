"""A metric as the exporter shows it and as docs/metrics.md lists it, defined in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

# Otherwise the library collects a gauge beside each series, with the time when it began, in every process.
disable_created_metrics()  # type: ignore[no-untyped-call]

Kind = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = Mapping[str, tuple[str, ...] | str]
"""The values of each label, or a description of them if they are not known in advance."""

SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Buckets of every duration, from a run on a simulated device to the longest a request should wait."""


@dataclass(frozen=True)
class MetricDefinition:
    """A metric's name, type, meaning and labels."""

    name: str
    """In code; Prometheus adds ``_total`` to a counter."""
    kind: Kind
    text: str
    """What it counts or measures: the exporter's HELP."""
    labels: Labels = field(default_factory=dict)
    buckets: tuple[float, ...] = SECONDS
    """Upper bounds of a histogram's buckets."""

    @property
    def exposed(self) -> str:
        """Return the name that a query uses."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels, in the order in which values are given."""
        return tuple(self.labels)

    def counter(self, registry: CollectorRegistry) -> Counter:
        """Add a counter to the registry.

        If all label values are known in advance its series start at 0, so that the first count is an increase.
        """
        counter = Counter(self.name, self.text, self.label_names, registry=registry)
        known = [values for values in self.labels.values() if isinstance(values, tuple)]
        if known and len(known) == len(self.labels):
            for values in product(*known):
                counter.labels(*values)
        return counter

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """Add a gauge to the registry."""
        return Gauge(self.name, self.text, self.label_names, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """Add a histogram to the registry."""
        return Histogram(self.name, self.text, self.label_names, buckets=self.buckets, registry=registry)

    def counter_family(self) -> CounterMetricFamily:
        """Return an empty family, for a collector that counts elsewhere."""
        return CounterMetricFamily(self.name, self.text, labels=self.label_names)

    def gauge_family(self) -> GaugeMetricFamily:
        """Return an empty family, for a collector that measures at each scrape."""
        return GaugeMetricFamily(self.name, self.text, labels=self.label_names)

    def histogram_family(self) -> HistogramMetricFamily:
        """Return an empty family, for a collector that keeps its own buckets."""
        return HistogramMetricFamily(self.name, self.text, labels=self.label_names)


MODEL_LABELS: Labels = {"model": "", "version": ""}
DEVICE_LABELS: Labels = {**MODEL_LABELS, "device": ""}
"""Labels that several metrics share. Their values come from the model repository and the settings."""
