"""``repserve bench compare``: two reports of the same kind of run, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from repserve_bench.column import Column, Noise, find
from repserve_bench.figures import COMPARED
from repserve_bench.windows import COMPARED as COMPARED_WINDOWS
from repserve_bench.windows import spread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WINDOW_FIGURES: tuple[tuple[Noise, str], ...] = (
    ("throughput", "per_second"),
    ("p50", "p50_seconds"),
    ("p99", "p99_seconds"),
)
CONDITIONS = (
    Column("model/name", "model"),
    Column("model/version", "version"),
    Column("model/devices", "devices"),
    Column("model/precisions", "precisions"),
    Column("model/max_batch_size", "max batch size"),
    Column("model/simulated", "simulated"),
    Column("dataset/images", "images"),
    Column("settings/concurrency", "in flight"),
    Column("settings/arrivals/rate", "requests/s (none in a closed loop)"),
    Column("settings/arrivals/distribution", "arrivals"),
    Column("settings/transport", "transport"),
    Column("settings/input/pixels", "pixels"),
    Column("settings/input/images_per_request", "images per request"),
    Column("environment/cpu", "cpu"),
    Column("environment/cores", "cores"),
)
"""What must be equal in both reports for the figures to be comparable."""


@dataclass(frozen=True)
class Change:
    """A figure of both reports, in the units of the JSON file."""

    column: Column
    before: float | None
    after: float | None
    noise: float | None
    """Largest difference that may be noise, as a share; None if unknown."""

    @property
    def ratio(self) -> float | None:
        """After over before; None where one is missing or 0."""
        return self.after / self.before if self.before and self.after is not None else None

    @property
    def verdict(self) -> str:
        """better, worse, within noise or unknown; empty if there is nothing to judge."""
        better = self.column.better
        if self.before is None or self.after is None or better == "neither" or self.before == self.after:
            return ""
        if self.noise is None:
            return "unknown"
        if self.ratio is not None and abs(self.ratio - 1) <= self.noise:
            return "within noise"
        return "better" if (self.after > self.before) == (better == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side."""

    changes: tuple[Change, ...]
    differing: tuple[str, ...]
    """Conditions that differ, with both values."""
    noise: Mapping[Noise, float | None]
    """Largest deviation of a window's figure from its mean, as a share, over both runs; None if a run has too few
    windows."""


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare two reports of ``repserve bench run``."""
    noise: dict[Noise, float | None] = {name: _noise((before, after), figure) for name, figure in WINDOW_FIGURES}
    noise["none"] = 0.0
    changes = tuple(
        Change(column, find(before, column.key), find(after, column.key), noise[column.noise]) for column in COMPARED
    )
    differing = tuple(
        f"{column.heading}: {_condition(column, before)} and {_condition(column, after)}"
        for column in CONDITIONS
        if column.value(before) != column.value(after)
    )
    return Comparison(changes, differing, noise)


def comparison_table(found: Comparison, names: tuple[str, str]) -> Table:
    """Return the comparison as a table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for place, column in enumerate(("figure", *names, "ratio", "")):
        table.add_column(column, justify="left" if place in {0, 4} else "right")
    for change in found.changes:
        if change.before is None and change.after is None:
            continue
        style = {"better": "green", "worse": "red"}.get(change.verdict, "")
        number = change.column.format.number
        ratio = "-" if change.ratio is None else f"{change.ratio:.3f}"
        cells = (number(change.before), number(change.after), ratio, change.verdict)
        table.add_row(change.column.title, *cells, style=style)
    return table


def describe_noise(found: Comparison) -> str:
    """Return a sentence about how large a difference may be noise."""
    known = [(name, share) for name, _ in WINDOW_FIGURES if (share := found.noise[name]) is not None]
    if not known:
        return (
            f"Noise: unknown, because a run has fewer than {COMPARED_WINDOWS} windows; measure for longer (--seconds) "
            "to learn whether a difference means anything."
        )
    shares = ", ".join(f"{100 * share:.1f} % of its {name}" for name, share in known)
    return f"Noise: within a run, windows deviate from its mean by up to {shares}."


def _condition(column: Column, document: Mapping[str, Any]) -> str:
    value = column.value(document)
    return "none" if value is None else column.format.number(value)


def _noise(documents: Iterable[Mapping[str, Any]], figure: str) -> float | None:
    found = 0.0
    for document in documents:
        values = [float(window[figure] or 0.0) for window in document["stability"]["windows"]]
        if len(values) < COMPARED_WINDOWS:
            return None
        found = max(found, min(1.0, spread_of(values)))
    return found
