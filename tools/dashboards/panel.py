"""What a dashboard is made of, and the PromQL that its panels share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

WINDOW = "$__rate_interval"
DEVICE = "model, device"

Kind = Literal["timeseries", "stat", "heatmap", "table", "row"]


@dataclass(frozen=True)
class Panel:
    """One panel: what it asks Prometheus for and how it shows it."""

    title: str
    queries: tuple[tuple[str, str], ...] = ()
    """Each a PromQL expression and the legend of its series."""
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    text: str = ""
    """What a reader should know; shown at the panel's corner."""
    stacked: bool = False
    most: float | None = None
    """Upper end of the axis."""
    thresholds: tuple[tuple[str, float | None], ...] = ()
    """Colours of a stat, each with the value from which it holds; None is from the start."""


@dataclass(frozen=True)
class Variable:
    """What the reader chooses from."""

    name: str
    label: str
    query: str
    several: bool = True
    """Whether several values may be chosen, and all are at first; one otherwise."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard as it is described here."""

    uid: str
    title: str
    text: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = field(default=())
    """Those besides the data source."""
    refresh: str = "10s"
    span: str = "now-30m"


def quantiles(metric: str, labels: str, by: str = "le") -> tuple[tuple[str, str], ...]:
    """Queries of the p50, p90 and p99 of a histogram."""
    return tuple(
        (f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{{{labels}}}[{WINDOW}])))", name)
        for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    )


def mean(metric: str, labels: str, by: str = "") -> str:
    """The mean of a histogram's observations; nothing where there were none."""
    split = f" by ({by})" if by else ""
    return (
        f"sum{split} (rate({metric}_sum{{{labels}}}[{WINDOW}]))"
        f" / (sum{split} (rate({metric}_count{{{labels}}}[{WINDOW}])) > 0)"
    )


def increase(metric: str, labels: str, by: str) -> str:
    """How much a counter grew within the panel's step."""
    return f"sum by ({by}) (increase({metric}{{{labels}}}[{WINDOW}]))"


def rate(metric: str, labels: str, by: str = "") -> str:
    """A counter's growth a second."""
    split = f" by ({by})" if by else ""
    return f"sum{split} (rate({metric}{{{labels}}}[{WINDOW}]))"
