"""One replay from start to report, as ``repserve bench run`` and the demo make it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_bench.load import run_load
from repserve_bench.progress import make_display
from repserve_bench.report import Report, write_json, write_predictions
from repserve_bench.served_model import is_simulated

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from repserve_bench.dataset import Dataset
    from repserve_bench.load import LoadSettings
    from repserve_client.results import ModelInfo


def replay(
    dataset: Dataset,
    settings: LoadSettings,
    model: ModelInfo,
    console: Console,
    *,
    output: Path | None = None,
    predictions: Path | None = None,
) -> Report:
    """Replays a dataset with a live display, prints the final table and writes the files asked for.

    Args:
        dataset: What to send.
        settings: How to send it.
        model: What answers, as the server lists it.
        console: Where progress and the table go.
        output: File for the report as JSON.
        predictions: File for the predictions as CSV.

    Raises:
        LoadError: The replay could not be made.
        OSError: A file could not be written.
    """
    accuracy = dataset.labelled and not is_simulated(model) and not model.caution
    with make_display(console, requests=settings.requests, seconds=settings.seconds, accuracy=accuracy) as display:
        result = run_load(dataset.samples, settings, display)
    report = Report(dataset, settings, model, result)
    console.print(report.to_table())
    for warning in report.warnings():
        console.print(warning, highlight=False, soft_wrap=True)
    if output is not None:
        write_json(output, report.to_json())
        console.print(f"Report written to {output}", highlight=False, soft_wrap=True)
    if predictions is not None:
        write_predictions(predictions, report)
        console.print(f"Predictions written to {predictions}", highlight=False, soft_wrap=True)
    return report
