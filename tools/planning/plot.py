"""The plot of docs/planner.md: latency and utilisation over the load, for each policy."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from planning.policies import PAD, PLANNER, PLANNER_GEARS, POLICIES, SINGLE, SOONEST, WAIT
from repserve_server.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from planning.comparison import Comparison

COLOURS = {
    PLANNER: "#0072b2",
    PLANNER_GEARS: "#009e73",
    PAD: "#d55e00",
    WAIT: "#cc79a7",
    SINGLE: "#000000",
}
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
STYLES = {PLANNER: "-", PLANNER_GEARS: "-", PAD: "--", WAIT: ":", SINGLE: "-."}
MARKERS = {PLANNER: "o", PLANNER_GEARS: "D", PAD: "s", WAIT: "^", SINGLE: "x"}
SHOWN = tuple(name for name in POLICIES if name != SOONEST)
LABELS = {PLANNER: "planner, sizes 1 and 16", PLANNER_GEARS: "planner, gears", WAIT: "2 ms delay, pad to 16"}
"""Labels in the legend, if different from the name."""
SIZE = (7.2, 10.5)
"""Inches; upright, so that a phone shows it without shrinking the text too far."""
LATENCIES = {"p99": "99th percentile of the latency, ms", "mean": "Mean latency, ms"}


def draw(comparison: Comparison, file: Path) -> None:
    """Draw one device's figures as SVG.

    Raises:
        OSError: The file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same figures give the same file: no date, no random ids.
    with mpl.rc_context({"font.size": 11, "svg.hashsalt": "repserve"}):
        figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
        p99, mean, utilisation = figure.subplots(3, 1, sharex=True, height_ratios=(5, 4, 3))
        _draw_latency(p99, comparison, "p99", ticks=(1, 1.5, 2, 3, 4, 6, 10, 15))
        _draw_latency(mean, comparison, "mean", ticks=(0.5, 0.7, 1, 1.5, 2, 3, 4))
        _draw_lines(utilisation, comparison, "utilisation", scale=100.0)
        utilisation.set_ylabel("Device busy, %")
        utilisation.set_ylim(0, 105)
        full = comparison.device.largest_rate
        utilisation.set_xlabel(f"Arrivals, % of {full:,.0f} images/s (full batches of 16)")
        utilisation.set_xticks(range(10, 101, 10))
        figure.suptitle(f"SIMULATED: {comparison.device.title}\nPoisson arrivals, no overhead of the host", fontsize=12)
        figure.legend(*p99.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        content = BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_whole(file, content.getvalue())


def _draw_latency(axes: Axes, comparison: Comparison, figure: str, ticks: tuple[float, ...]) -> None:
    _draw_lines(axes, comparison, figure, scale=1000.0)
    axes.set_ylabel(LATENCIES[figure])
    axes.set_yscale("log")
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _draw_lines(axes: Axes, comparison: Comparison, figure: str, scale: float) -> None:
    for name in SHOWN:
        found = {load: comparison.estimate(load, name, figure) for load in comparison.loads}
        points = {100 * load: scale * estimate.mean for load, estimate in found.items() if estimate is not None}
        ours = name in (PLANNER, PLANNER_GEARS)
        axes.plot(
            list(points),
            list(points.values()),
            STYLES[name],
            color=COLOURS[name],
            marker=MARKERS[name],
            markersize=4.5,
            linewidth=2.2 if ours else 1.5,
            zorder=3 if ours else 2,
            label=LABELS.get(name, name),
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
