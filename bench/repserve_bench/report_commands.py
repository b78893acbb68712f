"""``repserve bench compare`` and ``report``: what to do with reports that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_bench.command import exit_with
from repserve_bench.compare import compare as compare_reports
from repserve_bench.compare import comparison_table, describe_noise
from repserve_bench.html.page import write_page
from repserve_bench.load_options import EXISTING_FILE, HTML_FILE
from repserve_bench.report_file import RUN, read_json

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("before", type=EXISTING_FILE)
@click.argument("after", type=EXISTING_FILE)
def compare(before: Path, after: Path) -> None:
    """Compare two reports of 'bench run', BEFORE and AFTER, figure by figure.

    A change counts as noise when it is no larger than what the windows of one of the runs differ from their mean.
    """

    def show(console: Console) -> int:
        found = compare_reports(read_json(before, (RUN,)), read_json(after, (RUN,)))
        console.print(comparison_table(found, (before.stem, after.stem)))
        for difference in found.differing:
            console.print(f"Not the same: {difference}", highlight=False, soft_wrap=True, style="yellow")
        console.print(describe_noise(found), highlight=False, soft_wrap=True)
        return 0

    exit_with(show)


@click.command()
@click.argument("files", type=EXISTING_FILE, nargs=-1, required=True)
@click.option("--output", type=HTML_FILE, default=Path("report.html"), show_default=True, help="The HTML file.")
def report(files: tuple[Path, ...], output: Path) -> None:
    """Put reports (JSON) of any of the bench's commands into one HTML file."""

    def show(console: Console) -> int:
        write_page(output, [read_json(file) for file in files])
        console.print(f"HTML report written to {output}", highlight=False, soft_wrap=True)
        return 0

    exit_with(show)
