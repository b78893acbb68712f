"""The plots of the HTML report, as SVG pictures that need nothing else."""

from __future__ import annotations

import base64
import functools
import math
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
SIZE = (5.6, 3.2)
"""Inches; small, so that a phone need not shrink the text."""
MARKED = ("p50", "p99")
STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": ["DejaVu Sans", "sans-serif"],
    # The same figures give the same file: no date, no random ids.
    "svg.hashsalt": "repserve",
    "svg.fonttype": "path",
}
P = ParamSpec("P")


@dataclass(frozen=True)
class Picture:
    """A plot and what it shows, in words."""

    source: str
    """A ``data:`` URL."""
    text: str


def _drawn(
    text: str, height: float = SIZE[1]
) -> Callable[[Callable[Concatenate[Axes, P], None]], Callable[P, Picture]]:
    """Make a picture, with these words, of a function that draws on axes."""

    def decorate(draw: Callable[Concatenate[Axes, P], None]) -> Callable[P, Picture]:
        @functools.wraps(draw)
        def make(*args: P.args, **kwargs: P.kwargs) -> Picture:
            import matplotlib as mpl
            from matplotlib.figure import Figure

            content = BytesIO()
            with mpl.rc_context(STYLE):  # type: ignore[arg-type]
                figure = Figure(figsize=(SIZE[0], height), layout="constrained", facecolor="white")
                axes = figure.subplots()
                axes.spines[["top", "right"]].set_visible(False)
                axes.grid(visible=True, color="#e3e3e3", linewidth=0.6)
                axes.set_axisbelow(True)
                draw(axes, *args, **kwargs)
                figure.savefig(content, format="svg", metadata={"Date": None})
            return Picture("data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode(), text)

        return make

    return decorate


@_drawn("Latency over throughput, for each number of requests in flight")
def throughput_latency(axes: Axes, series: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw p99 and p50 over throughput: a curve for each server, a point for each concurrency."""
    for (name, points), colour in zip(series.items(), cycle(COLOURS), strict=False):
        found = [point for point in points if point["latency_seconds"]["p99"] is not None]
        fps = [point["fps"] for point in found]
        for percentile, style in (("p99", "-o"), ("p50", ":o")):
            values = [1000 * point["latency_seconds"][percentile] for point in found]
            label = f"{name} {percentile}".strip()
            axes.plot(fps, values, style, color=colour, markersize=3.5, linewidth=1.6, label=label)
        for point in found:
            place = (point["fps"], 1000 * point["latency_seconds"]["p99"])
            axes.annotate(f"{point['concurrency']}", place, (3, 4), textcoords="offset points", fontsize=7)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("Throughput, images/s (numbers: requests in flight)")
    axes.set_ylabel("Latency, ms")
    _plain_ticks(axes)
    if series:
        axes.legend(frameon=False, fontsize=8)


@_drawn("99th percentile of the latency over the offered rate")
def saturation(axes: Axes, steps: Sequence[Mapping[str, Any]], bound: float) -> None:
    """Draw the p99 of each rate that was tried, against the bound."""
    for passed, colour, marker, label in (
        (True, COLOURS[0], "o", "passed"),
        (False, COLOURS[1], "x", "did not pass"),
    ):
        found = [
            step for step in steps if (not step["complaint"]) == passed and step["latency_seconds"]["p99"] is not None
        ]
        rates, values = [step["rate"] for step in found], [1000 * step["latency_seconds"]["p99"] for step in found]
        axes.plot(rates, values, marker, color=colour, label=label, linestyle="none")
    axes.axhline(1000 * bound, color="#777777", linestyle="--", linewidth=1, label=f"bound, {1000 * bound:g} ms")
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_xlabel("Offered, requests/s (Poisson)")
    axes.set_ylabel("p99, ms")
    _plain_ticks(axes)
    axes.legend(frameon=False, fontsize=8)


@_drawn("Histogram of the latency")
def latency_histogram(
    axes: Axes, edges: Sequence[float], counts: Sequence[int], percentiles: Mapping[str, float | None]
) -> None:
    """Draw how many requests took how long, with the p50 and the p99 marked."""
    milliseconds = [1000 * edge for edge in edges]
    axes.stairs(counts, milliseconds, fill=True, color=COLOURS[5])
    for name, style in zip(MARKED, (":", "--"), strict=True):
        value = percentiles.get(name)
        if value is not None:
            label = f"{name} {1000 * value:,.2f} ms"
            axes.axvline(1000 * value, color=COLOURS[6], linestyle=style, linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("Latency, ms")
    axes.set_ylabel("Requests")
    _plain_ticks(axes, which="x")
    axes.legend(frameon=False, fontsize=8)


@_drawn("Throughput and 99th percentile of the latency over time")
def windows(axes: Axes, found: Sequence[Mapping[str, Any]], length: float) -> None:
    """Draw throughput and p99 over time."""
    times = [length * (number + 1) for number in range(len(found))]
    lines = axes.plot(
        times, [window["per_second"] for window in found], "-o", color=COLOURS[0], markersize=3, label="requests/s"
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Time, s")
    axes.set_ylabel("Requests/s")
    other = axes.twinx()
    p99 = [math.nan if window["p99_seconds"] is None else 1000 * window["p99_seconds"] for window in found]
    lines += other.plot(times, p99, "--s", color=COLOURS[1], markersize=3, label="p99, ms")
    other.set_ylim(bottom=0)
    other.set_ylabel("p99, ms")
    other.spines["top"].set_visible(False)
    axes.legend(handles=lines, frameon=False, fontsize=8, loc="lower right")


@_drawn("Share of the images by the size of their batch")
def batch_sizes(axes: Axes, counts: Mapping[str, int]) -> None:
    """Draw the share of the images by the size of the batch they rode in."""
    total = sum(counts.values())
    axes.bar([int(size) for size in counts], [100 * count / total for count in counts.values()], color=COLOURS[0])
    axes.set_xticks(range(1, max(map(int, counts)) + 1, max(1, max(map(int, counts)) // 16)))
    axes.set_xlabel("Images in the batch")
    axes.set_ylabel("Images, %")


@_drawn("Mean time of a request by stage", height=1.7)
def stages(axes: Axes, seconds: Mapping[str, float]) -> None:
    """Draw where the mean latency goes."""
    left = 0.0
    for (name, value), colour in zip(seconds.items(), cycle(COLOURS), strict=False):
        axes.barh([0], [1000 * value], left=left, color=colour, label=f"{name} {1000 * value:.2f} ms", height=0.5)
        left += 1000 * value
    axes.set_yticks([])
    axes.set_ylim(-0.4, 0.4)
    axes.set_xlabel("Mean time of a request, ms")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _plain_ticks(axes: Axes, which: str = "y") -> None:
    """Write the numbers of a logarithmic axis as people do, also between powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
