"""``repserve bench compare``: two reports of the same kind of run, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.table import Table

from repserve_bench.windows import COMPARED, spread_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Better = Literal["higher", "lower", "neither"]

Noise = Literal["throughput", "p50", "p99", "none"]
WINDOW_FIGURES: tuple[tuple[Noise, str], ...] = (
    ("throughput", "per_second"),
    ("p50", "p50_seconds"),
    ("p99", "p99_seconds"),
)
"""What of a run's windows tells how much of a difference is noise."""

FIGURES: tuple[tuple[str, tuple[str, ...], float, int, Better, Noise], ...] = (
    ("throughput, fps", ("fps",), 1, 1, "higher", "throughput"),
    ("p50, ms", ("latency_seconds", "p50"), 1000, 2, "lower", "p50"),
    ("p90, ms", ("latency_seconds", "p90"), 1000, 2, "lower", "p99"),
    ("p99, ms", ("latency_seconds", "p99"), 1000, 2, "lower", "p99"),
    ("p99.9, ms", ("latency_seconds", "p99.9"), 1000, 2, "lower", "p99"),
    ("top-1, %", ("accuracy", "top1"), 100, 2, "higher", "none"),
    ("top-5, %", ("accuracy", "top5"), 100, 2, "higher", "none"),
    ("failed requests", ("failed_requests",), 1, 0, "lower", "none"),
    ("mean batch size", ("mean_batch_size",), 1, 2, "neither", "none"),
    ("mean decode, ms", ("mean_decode_seconds",), 1000, 2, "lower", "p50"),
    ("mean queue, ms", ("mean_queue_seconds",), 1000, 2, "lower", "p99"),
    ("mean compute, ms", ("mean_compute_seconds",), 1000, 2, "lower", "p50"),
    ("client CPU-ms a request", ("client", "cpu_milliseconds_per_request"), 1, 3, "lower", "p50"),
)
"""Name, where it is in the report, factor to the unit of the name, digits, which way is better, and what of the
runs' windows tells how much of a difference is noise."""
CONDITIONS = (
    ("model", ("model", "name")),
    ("version", ("model", "version")),
    ("devices", ("model", "devices")),
    ("precisions", ("model", "precisions")),
    ("max batch", ("model", "max_batch_size")),
    ("simulated", ("model", "simulated")),
    ("images", ("dataset", "images")),
    ("in flight", ("settings", "concurrency")),
    ("rate/s (none is a closed loop)", ("settings", "arrivals", "rate")),
    ("arrivals", ("settings", "arrivals", "distribution")),
    ("transport", ("settings", "transport")),
    ("pixels", ("settings", "input", "pixels")),
    ("images a request", ("settings", "input", "images_per_request")),
    ("cpu", ("environment", "cpu")),
    ("cores", ("environment", "cores")),
)
"""What should be the same in both for the figures to be comparable."""


@dataclass(frozen=True)
class Change:
    """A figure of both reports, in the unit that its name says."""

    name: str
    before: float | None
    after: float | None
    digits: int
    better: Better
    noise: float | None
    """Share by which a difference may be noise; None where that is not known."""

    @property
    def ratio(self) -> float | None:
        """After over before; None where one is missing or 0."""
        return self.after / self.before if self.before and self.after is not None else None

    @property
    def verdict(self) -> str:
        """better, worse, within noise, or nothing to say."""
        if self.before is None or self.after is None or self.better == "neither" or self.before == self.after:
            return ""
        if self.noise is None:
            return "unknown"
        if self.ratio is not None and abs(self.ratio - 1) <= self.noise:
            return "within noise"
        return "better" if (self.after > self.before) == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two reports side by side."""

    changes: tuple[Change, ...]
    differing: tuple[str, ...]
    """What was not the same in both, with both values."""
    noise: Mapping[Noise, float | None]
    """Share by which a figure of a window of either run was away from its mean, at most; None where a run has too few
    windows to tell."""


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compares two reports of ``repserve bench run``."""
    noise: dict[Noise, float | None] = {name: _noise((before, after), figure) for name, figure in WINDOW_FIGURES}
    noise["none"] = 0.0
    changes = tuple(
        Change(name, _scaled(before, path, factor), _scaled(after, path, factor), digits, better, noise[kind])
        for name, path, factor, digits, better, kind in FIGURES
    )
    differing = tuple(
        f"{name}: {_condition(first)} and {_condition(second)}"
        for name, path in CONDITIONS
        if (first := _find(before, path)) != (second := _find(after, path))
    )
    return Comparison(changes, differing, noise)


def comparison_table(found: Comparison, names: tuple[str, str]) -> Table:
    """Returns the comparison as a table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(("figure", *names, "ratio", "")):
        table.add_column(column, justify="left" if number in {0, 4} else "right")
    for change in found.changes:
        if change.before is None and change.after is None:
            continue
        ratio, verdict = change.ratio, change.verdict
        style = {"better": "green", "worse": "red"}.get(verdict, "")
        cells = (_text(change.before, change.digits), _text(change.after, change.digits))
        table.add_row(change.name, *cells, "-" if ratio is None else f"{ratio:.3f}", verdict, style=style)
    return table


def describe_noise(found: Comparison) -> str:
    """Returns how much of a difference says nothing, in a sentence."""
    known = [(name, share) for name, _ in WINDOW_FIGURES if (share := found.noise[name]) is not None]
    if not known:
        return (
            f"Noise: unknown, for a run has fewer than {COMPARED} windows; measure for longer (--seconds) to learn "
            "whether a difference means anything."
        )
    shares = ", ".join(f"{100 * share:.1f} % of its {name}" for name, share in known)
    return f"Noise: windows of a run are away from its mean by up to {shares}."


def _find(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever the JSON holds
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _condition(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _scaled(document: Mapping[str, Any], path: tuple[str, ...], factor: float) -> float | None:
    value = _find(document, path)
    return None if value is None else factor * float(value)


def _noise(documents: Iterable[Mapping[str, Any]], figure: str) -> float | None:
    found = 0.0
    for document in documents:
        values = [float(window[figure] or 0.0) for window in document["stability"]["windows"]]
        if len(values) < COMPARED:
            return None
        found = max(found, min(1.0, spread_of(values)))
    return found


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
