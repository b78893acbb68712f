"""``repserve bench``: replays of a labelled image set, and the guide's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_bench.arrivals import Arrivals
from repserve_bench.command import INTERRUPTED, exit_with
from repserve_bench.guide_table import markdown_table
from repserve_bench.load_commands import saturate, sweep
from repserve_bench.load_options import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    HTML_FILE,
    OUTPUT_FILE,
    SECONDS,
    load_options,
    prepare,
)
from repserve_bench.mlperf.cli import mlperf
from repserve_bench.offline.cli import offline
from repserve_bench.predictions import read_predictions
from repserve_bench.report_commands import compare, report
from repserve_bench.report_file import write_json
from repserve_bench.run import Outputs, replay
from repserve_bench.table import TableSettings, measure_table

if TYPE_CHECKING:
    from rich.console import Console

    from repserve_bench.arrivals import Distribution
    from repserve_bench.load_options import LoadOptions

CLOSED_IN_FLIGHT = 32
OPEN_IN_FLIGHT = 4_096


@click.group()
def bench() -> None:
    """Measure throughput, latency and accuracy through a server."""


bench.add_command(offline)
bench.add_command(sweep)
bench.add_command(saturate)
bench.add_command(mlperf)
bench.add_command(compare)
bench.add_command(report)


@bench.command()
@load_options
@click.option("--concurrency", type=click.IntRange(1), help="Requests in flight; with --rate at most. 32, or 4096.")
@click.option("--rate", type=SECONDS, help="Requests a second, sent when they are due, whatever becomes of others.")
@click.option(
    "--distribution",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="Of the gaps between requests, with --rate.",
)
@click.option("--epochs", "--repeat", type=click.IntRange(1), help="Replay the images N times (1 by default).")
@click.option("--requests", type=click.IntRange(1), help="Replay in a loop until N requests were sent.")
@click.option("--seconds", type=SECONDS, help="Replay in a loop for so long.")
@click.option("--until-stable", is_flag=True, help="End as soon as three windows agree; --seconds at most.")
@click.option("--retry/--no-retry", default=None, help="Try again what may be; by default, but not with --rate.")
@click.option("--reference", type=EXISTING_FILE, help="Predictions (CSV) of another run, to count disagreements.")
@click.option("--output", type=OUTPUT_FILE, default=Path("report.json"), show_default=True, help="The report.")
@click.option("--html", type=HTML_FILE, help="Also write the report as one HTML file.")
@click.option("--markdown", type=OUTPUT_FILE, help="Also write the table as Markdown.")
@click.option("--predictions", type=OUTPUT_FILE, help="Also write each image's prediction (CSV).")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Show Prometheus the figures while it runs.")
@click.option("--pushgateway", help="URL of a Prometheus Pushgateway that gets the figures at the end.")
def run(
    *,
    load: LoadOptions,
    concurrency: int | None,
    rate: float | None,
    distribution: Distribution,
    epochs: int | None,
    requests: int | None,
    seconds: float | None,
    until_stable: bool,
    retry: bool | None,
    reference: Path | None,
    output: Path,
    html: Path | None,
    markdown: Path | None,
    predictions: Path | None,
    metrics_port: int | None,
    pushgateway: str | None,
) -> None:
    """Replay images through a server and report throughput, latency and accuracy.

    In a closed loop, the default, a request follows each answer. With --rate requests come by the clock, and each is
    timed from when it was due: a server that stalls cannot hide it.

    Exits with 1 when a request failed, and with 130 after Ctrl-C, which prints what was measured until then.
    """
    if sum(option is not None for option in (epochs, requests, seconds)) > 1:
        raise click.UsageError("--epochs, --requests and --seconds exclude each other")
    if until_stable and seconds is None:
        raise click.UsageError("--until-stable needs --seconds, the longest it may take")

    def measure(console: Console) -> int:
        known = read_predictions(reference) if reference else None
        prepared = prepare(load)
        console.print(f"Images: {prepared.dataset.describe()}", highlight=False, soft_wrap=True)
        settings = replace(
            prepared.settings,
            concurrency=concurrency or (OPEN_IN_FLIGHT if rate else CLOSED_IN_FLIGHT),
            arrivals=Arrivals(rate, distribution) if rate else None,
            requests=0 if seconds else requests or (epochs or 1) * prepared.passes,
            seconds=seconds or 0.0,
            until_stable=until_stable,
            retries=retry if retry is not None else rate is None,
        )
        outputs = Outputs(output, html, markdown, predictions, metrics_port, pushgateway)
        found = replay(prepared.dataset, settings, prepared.model, console, outputs=outputs, reference=known)
        if found.result.interrupted:
            return INTERRUPTED
        return 1 if found.failed else 0

    exit_with(measure)


@bench.command()
@click.option("--model-repository", type=EXISTING_FOLDER, default=Path("model_repo"), show_default=True)
@click.option("--model", default="repvgg_a0", show_default=True, help="Name of the model.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("cpu", "sim:310p"),
    show_default=True,
    help="Device to measure; may be given several times.",
)
@click.option("--images", type=EXISTING_FOLDER, help="Folder of images; the bundled digits by default.")
@click.option("--labels", type=EXISTING_FILE, help="val_label.txt, to measure the top-1 too.")
@click.option(
    "--seconds",
    type=SECONDS,
    default=5.0,
    show_default=True,
    help="Length of each measurement.",
)
@click.option("--precision", help="Arithmetic on the device: auto, f32 or bf16.")
@click.option("--output", type=OUTPUT_FILE, help="Also write the measured rows as JSON.")
@click.option("--markdown", type=OUTPUT_FILE, help="Also write the table as Markdown.")
def table(
    *,
    model_repository: Path,
    model: str,
    devices: tuple[str, ...],
    images: Path | None,
    labels: Path | None,
    seconds: float,
    precision: str | None,
    output: Path | None,
    markdown: Path | None,
) -> None:
    """Measure each device at max batch 1 and 16 and print the guide's table beside it.

    Starts a server of its own for each measurement. Simulated devices are marked SIMULATED.
    """
    if labels is not None and images is None:
        raise click.UsageError("--labels needs --images: the bundled images are not this model's")

    def measure(console: Console) -> int:
        settings = TableSettings(
            model_repository=model_repository,
            model=model,
            devices=devices,
            images=images,
            labels=labels,
            seconds=seconds,
            precision=precision,
        )
        result = measure_table(settings, console)
        if output is not None:
            write_json(output, result.to_json())
        if markdown is not None:
            markdown.write_text(markdown_table(result.rows), encoding="utf-8")
        if result.interrupted:
            return INTERRUPTED
        return 1 if result.failed else 0

    exit_with(measure)
