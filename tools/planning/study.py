"""``make planner``: simulates, prints the tables, draws the plot and writes the results into docs/planner.md."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from planning.comparison import LOADS, MOST_SEEDS, collect, points, run_points
from planning.devices import DEVICES
from planning.page import PageError, results_text, write_results
from planning.plot import draw
from planning.simulation import WARM_UP
from planning.tables import COMPARED, gain_rows, latency_rows, rich_table, rule_rows, share_rows
from repserve_bench.command import INTERRUPTED, make_console

if TYPE_CHECKING:
    from rich.console import Console

    from planning.comparison import Comparison

ALLOWED_EXCESS = 0.05
"""The planner's 99th percentile may be above that of the best other policy by this share."""
OUTPUT_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.option(
    "--images", type=click.IntRange(1000), default=200_000, show_default=True, help="Images per seed and load."
)
@click.option(
    "--seeds", type=click.IntRange(2, MOST_SEEDS), default=5, show_default=True, help="Number of repetitions."
)
@click.option(
    "--page", type=OUTPUT_FILE, default=Path("docs/planner.md"), show_default=True, help="Page to write the tables to."
)
@click.option(
    "--plot", type=OUTPUT_FILE, default=Path("docs/planner.svg"), show_default=True, help="File to write the plot to."
)
def main(*, images: int, seeds: int, page: Path, plot: Path) -> None:
    """Compare the planner with other policies on published costs. SIMULATED; takes minutes.

    The exit status is 1 where the planner's 99th percentile is more than 5 % above that of the best other policy.
    """
    console = make_console()
    try:
        comparisons = compare(images, seeds, console)
        settings = (
            f"`make planner` on {datetime.now(UTC).date()}, {images:,} images per load and seed, more where a queue is "
            f"long, the first {100 * WARM_UP:.0f} % left out; {seeds} seeds"
        )
        write_results(page, results_text(comparisons, settings))
        draw(comparisons[0], plot)
    except (PageError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    print_tables(comparisons, console)
    console.print(f"Written to {page} and {plot}", highlight=False)
    sys.exit(0 if keeps_up(comparisons) else 1)


def compare(images: int, seeds: int, console: Console) -> list[Comparison]:
    """Simulate every device at every load; see Point."""
    wanted = points(DEVICES, LOADS, seeds, images)
    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("", total=len(wanted))
        return collect(run_points(wanted, lambda: progress.advance(task)))


def print_tables(comparisons: list[Comparison], console: Console) -> None:
    """Print the most important tables; the page has more."""
    shown = comparisons[0]
    name = f"{shown.device.title}, SIMULATED"
    for title, rows in (
        (f"99th percentile of the latency, ms ({name})", latency_rows(shown, "p99")),
        (f"Mean latency, ms ({name})", latency_rows(shown, "mean")),
        (f"Device utilisation ({name})", share_rows(shown, "utilisation")),
        (f"Where the planner is furthest ahead, 99th percentile ({name})", gain_rows(shown)),
        ("The worst against the best of the others, 99th percentile (SIMULATED)", rule_rows(comparisons)),
    ):
        console.print(rich_table(title, rows))


def keeps_up(comparisons: list[Comparison]) -> bool:
    """Whether the planner is nowhere further above the best other policy than is allowed."""
    worst = [comparison.worst_excess(name, "p99")[0] for comparison in comparisons for name in COMPARED]
    return all(excess.mean <= ALLOWED_EXCESS for excess in worst)


if __name__ == "__main__":
    main()
