"""One replay from start to report, as ``repserve bench run`` and the demo make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.html.page import write_page
from repserve_bench.load import run_load
from repserve_bench.metrics import BenchCollector, exported, push
from repserve_bench.predictions import write_predictions
from repserve_bench.progress import make_display
from repserve_bench.report import Report
from repserve_bench.report_file import write_json
from repserve_bench.report_table import markdown_report, rich_report
from repserve_bench.served_model import accuracy_missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadSettings
    from repserve_bench.tally import Tally
    from repserve_client.results import ModelInfo


@dataclass(frozen=True)
class Outputs:
    """Where a replay's figures go besides the console; None is nowhere."""

    output: Path | None = None
    """File for the report as JSON."""
    html: Path | None = None
    markdown: Path | None = None
    predictions: Path | None = None
    """File for the predictions as CSV."""
    metrics_port: int | None = None
    pushgateway: str | None = None


def replay(
    dataset: Dataset,
    settings: LoadSettings,
    model: ModelInfo,
    console: Console,
    *,
    outputs: Outputs | None = None,
    reference: Mapping[str, int] | None = None,
) -> Report:
    """Replays a dataset with a live display, prints the final table and writes the files asked for.

    Args:
        dataset: What to send.
        settings: How to send it.
        model: What answers, as the server lists it.
        console: Where progress and the table go.
        outputs: Where else the figures go.
        reference: Best class of each image in another run, to count disagreements.

    Raises:
        LoadError: The replay could not be made.
        MetricsError: The figures could not be shown, or not be pushed; the files are written then.
        OSError: A file could not be written.
    """
    outputs = outputs or Outputs()
    accuracy = not accuracy_missing(model, labelled=dataset.labelled)
    requests, seconds = settings.requests, settings.seconds
    collector = BenchCollector(model.name, requests=requests, seconds=seconds, accuracy=accuracy)
    with exported(collector, outputs.metrics_port) as url:
        if url is not None:
            console.print(f"Metrics at {url}", highlight=False)
        with make_display(console, requests=requests, seconds=seconds, accuracy=accuracy) as display:

            def show(tally: Tally, elapsed: float) -> None:
                collector(tally, elapsed)
                display(tally, elapsed)

            result = run_load(dataset.samples, settings, show)
        told = collector if result.interrupted else collector.finish
        told(result.tally, result.elapsed)
    report = Report(dataset, settings, model, result, reference)
    console.print(rich_report(report))
    for warning in report.warnings():
        console.print(warning, highlight=False, soft_wrap=True)
    _write(report, outputs, console)
    if outputs.pushgateway is not None:
        push(collector, outputs.pushgateway)
    return report


def _write(report: Report, outputs: Outputs, console: Console) -> None:
    if outputs.output is not None:
        write_json(outputs.output, report.to_json())
        console.print(f"Report written to {outputs.output}", highlight=False, soft_wrap=True)
    if outputs.html is not None:
        write_page(outputs.html, [report.to_json()])
        console.print(f"HTML report written to {outputs.html}", highlight=False, soft_wrap=True)
    if outputs.markdown is not None:
        outputs.markdown.write_text(markdown_report(report), encoding="utf-8")
        console.print(f"Markdown table written to {outputs.markdown}", highlight=False, soft_wrap=True)
    if outputs.predictions is not None:
        write_predictions(outputs.predictions, report.dataset.samples, report.result.predictions)
        console.print(f"Predictions written to {outputs.predictions}", highlight=False, soft_wrap=True)
