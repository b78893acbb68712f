"""One replay from start to report, as ``repserve bench run`` and the demo make it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.column import list_figures, markdown_table, rich_list
from repserve_bench.figures import RUN_FIGURES, run_json
from repserve_bench.html.page import write_report
from repserve_bench.load import run_load
from repserve_bench.measurement import Measurement
from repserve_bench.metrics import BenchCollector, exported, push
from repserve_bench.predictions import write_predictions
from repserve_bench.progress import load_display
from repserve_bench.served_model import accuracy_missing, fetch_class_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from rich.console import Console

    from repserve_bench.dataset import Dataset
    from repserve_bench.load_messages import LoadSettings
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
) -> Measurement:
    """Replay a dataset with a live display, print the final table and write the requested files.

    Args:
        dataset: What to send.
        settings: How to send it.
        model: What answers, as the server lists it.
        console: Where progress and the table go.
        outputs: Where else the figures go.
        reference: Best class of each image in another run, to count disagreements.

    Raises:
        LoadError: The replay could not be made.
        MetricsError: The metrics could not be served; or not be pushed, after the files were written.
        OSError: A file could not be written.
    """
    outputs = outputs or Outputs()
    accuracy = not accuracy_missing(model, labelled=dataset.labelled)
    requests, seconds = settings.requests, settings.seconds
    collector = BenchCollector(model.name, requests=requests, seconds=seconds, accuracy=accuracy)
    with exported(collector, outputs.metrics_port) as url:
        if url is not None:
            console.print(f"Metrics at {url}", highlight=False)
        with load_display(console, requests=requests, seconds=seconds, accuracy=accuracy) as show:

            def progress(tally: Tally, elapsed: float) -> None:
                collector(tally, elapsed)
                show(tally, elapsed)

            result = run_load(dataset.samples, settings, progress)
        (collector if result.interrupted else collector.finish)(result.tally, result.elapsed)
    names = {}
    if accuracy and not result.interrupted:
        # After the measurement, since it costs a request: answers name their best classes only.
        names = fetch_class_names(settings.address, model)
    found = Measurement(dataset, settings, model, result, reference=reference, labels=names)
    document = run_json(found)
    console.print(rich_list(RUN_FIGURES, document, run_title(document)))
    for warning in document["warnings"]:
        console.print(warning, highlight=False, soft_wrap=True)
    _write(found, document, outputs, console)
    if outputs.pushgateway is not None:
        push(collector, outputs.pushgateway)
    return found


def run_title(document: Mapping[str, Any]) -> str:
    """Return what was measured, in a line; simulated devices are marked."""
    title = f"{document['model']['name']} at {document['settings']['address']}"
    if document["simulated"]:
        title = f"SIMULATED: {title}"
    return title + (" (interrupted)" if document["interrupted"] else "")


def run_markdown(document: Mapping[str, Any]) -> str:
    """Return the table and the warnings as GitHub Markdown."""
    text = f"## {run_title(document)}\n\n" + markdown_table(("Figure", "Value"), list_figures(RUN_FIGURES, document))
    warnings = "".join(f"- {warning}\n" for warning in document["warnings"])
    return text + (f"\n{warnings}" if warnings else "")


def _write(found: Measurement, document: dict[str, Any], outputs: Outputs, console: Console) -> None:
    write_report(document, outputs.output, outputs.html, console)
    if outputs.markdown is not None:
        outputs.markdown.write_text(run_markdown(document), encoding="utf-8")
        console.print(f"Markdown table written to {outputs.markdown}", highlight=False, soft_wrap=True)
    if outputs.predictions is not None:
        write_predictions(outputs.predictions, found.dataset.samples, found.result.predictions)
        console.print(f"Predictions written to {outputs.predictions}", highlight=False, soft_wrap=True)
