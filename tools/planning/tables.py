"""The figures of a comparison as tables: rows of text, for the terminal and for the page."""

from __future__ import annotations

from itertools import groupby
from math import inf
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from planning.policies import BASELINES, PLANNER, PLANNER_GEARS, POLICIES, SOONEST
from repserve_server.worker.planner import BatchCosts, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from planning.comparison import Comparison, Estimate

COMPARED = (PLANNER, PLANNER_GEARS)
"""The policies that must keep up with the baselines."""
Rows = list[list[str]]
"""The headings, then the rows."""


def latency_rows(comparison: Comparison, figure: str) -> Rows:
    """Return a row for each load: milliseconds by policy, and the planner's distance from the best baseline."""
    rows = [["load", "images/s", *POLICIES, *(f"{name} against best" for name in COMPARED)]]
    for load in comparison.loads:
        found = [comparison.estimate(load, name, figure) for name in POLICIES]
        cells = ["" if estimate is None else f"{1000 * estimate.mean:.2f}" for estimate in found]
        excesses = [percent(comparison.excess(load, name, figure)) for name in COMPARED]
        rows.append([*_load_cells(comparison, load), *cells, *excesses])
    return rows


def share_rows(comparison: Comparison, figure: str) -> Rows:
    """Return a row for each load: a figure that is a share by policy, in percent."""
    rows = [["load", "images/s", *POLICIES]]
    for load in comparison.loads:
        found = [comparison.estimate(load, name, figure) for name in POLICIES]
        cells = ["" if estimate is None else f"{100 * estimate.mean:.0f} %" for estimate in found]
        rows.append([*_load_cells(comparison, load), *cells])
    return rows


def batch_rows(comparison: Comparison) -> Rows:
    """Return a row for each load: images in a run by policy."""
    rows = [["load", "images/s", *POLICIES]]
    for load in comparison.loads:
        found = [comparison.estimate(load, name, "mean_batch") for name in POLICIES]
        cells = ["" if estimate is None else f"{estimate.mean:.1f}" for estimate in found]
        rows.append([*_load_cells(comparison, load), *cells])
    return rows


def rule_rows(comparisons: Sequence[Comparison]) -> Rows:
    """Return for each device the worst 99th percentile against the best baseline's, and where."""
    names = (*COMPARED, SOONEST)
    rows = [["device", *names]]
    for comparison in comparisons:
        worst = [comparison.worst_excess(name, "p99") for name in names]
        rows.append([comparison.device.title, *(f"{percent(excess)} at {_percent(load)}" for excess, load in worst)])
    return rows


def gain_rows(comparison: Comparison) -> Rows:
    """Return for each baseline where the planner's 99th percentile is furthest below its."""
    rows = [["against", *COMPARED]]
    for baseline in BASELINES:
        best = [comparison.best_gain(name, "p99", baseline) for name in COMPARED]
        rows.append([baseline, *(f"{percent(excess)} at {_percent(load)}" for excess, load in best)])
    return rows


def plan_rows(columns: Mapping[str, Mapping[int, float]], counts: Sequence[int]) -> Rows:
    """Return for each number of waiting images the runs that are planned, and those at half load where they differ.

    Args:
        columns: costs of each size, by heading.
        counts: numbers of waiting images.
    """
    costs = {heading: BatchCosts(seconds) for heading, seconds in columns.items()}
    rows = [["waiting", *columns]]
    for waiting in counts:
        cells = []
        for known in costs.values():
            quiet, busy = (planned_runs(known, waiting, load) for load in (0.0, 0.5))
            cells.append(quiet if quiet == busy else f"{quiet} (busy: {busy})")
        rows.append([str(waiting), *cells])
    return rows


def planned_runs(costs: BatchCosts, waiting: int, load: float) -> str:
    """Return the sizes of the runs until nothing waits, if nothing else arrives: ``16 + 3 x 1``.

    Args:
        costs: of the device.
        waiting: images that wait at first.
        load: the expected arrivals, as a share of what the device can run.
    """
    rate = load * costs.best_rate / costs.seconds[costs.best_rate]
    sizes = []
    while waiting:
        chosen = plan([inf] * waiting, costs, 0.0, rate)
        sizes.append(chosen.size)
        waiting -= len(chosen.take)
    repeated = [(size, len(list(group))) for size, group in groupby(sizes)]
    return " + ".join(f"{size}" if times == 1 else f"{times} x {size}" for size, times in repeated)


def percent(share: Estimate) -> str:
    """Format a share as ``+1.2 ± 0.3 %``."""
    return f"{100 * share.mean:+.1f} ± {100 * share.margin:.1f} %"


def rich_table(title: str, rows: Rows) -> Table:
    """Format rows for the terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        stacked = heading.replace(" ", "\n").replace(",\n", ", ") if rows[0][0] == "load" else heading
        table.add_column(stacked, justify="right" if number or heading == "load" else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown_table(rows: Rows) -> str:
    """Format rows for the page."""
    rule = ["--:" if rows[0][0] == "load" else "---"] * len(rows[0])
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:]))


def _load_cells(comparison: Comparison, load: float) -> list[str]:
    return [_percent(load), f"{load * comparison.device.largest_rate:,.0f}"]


def _percent(load: float) -> str:
    return f"{100 * load:.0f} %"
