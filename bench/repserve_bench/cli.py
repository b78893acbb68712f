"""``repserve bench``: replays of a labelled image set, and the guide's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_bench.arrivals import Arrivals
from repserve_bench.command import INTERRUPTED, gathered, measuring
from repserve_bench.compare import compare as compare_reports
from repserve_bench.compare import comparison_table, describe_noise
from repserve_bench.guide_table import guide_tables
from repserve_bench.html.page import write_page
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
from repserve_bench.report_file import RUN, read_json, write_json
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


@bench.command()
@load_options
@click.option(
    "--concurrency", type=click.IntRange(1), help="Requests in flight (default 32; with --rate, at most 4096)."
)
@click.option("--rate", type=SECONDS, help="Send this many requests per second, however long answers take (open loop).")
@click.option(
    "--distribution",
    type=click.Choice(["poisson", "constant"]),
    default="poisson",
    show_default=True,
    help="With --rate: how requests are spaced.",
)
@click.option("--epochs", type=click.IntRange(1), help="Replay the images N times (default 1).")
@click.option("--requests", type=click.IntRange(1), help="Stop after N requests.")
@click.option("--seconds", type=SECONDS, help="Stop after this many seconds.")
@click.option(
    "--until-stable",
    is_flag=True,
    help="Stop as soon as three windows in a row agree, and after --seconds at the latest.",
)
@click.option(
    "--retry/--no-retry",
    default=None,
    help="Retry requests that the server refuses or loses (default: only without --rate).",
)
@click.option(
    "--reference", type=EXISTING_FILE, help="Predictions (CSV) of another run; count the images whose answer differs."
)
@click.option("--output", type=OUTPUT_FILE, default=Path("report.json"), show_default=True, help="JSON report.")
@click.option("--html", type=HTML_FILE, help="Also write an HTML report.")
@click.option("--markdown", type=OUTPUT_FILE, help="Also write the table as Markdown.")
@click.option("--predictions", type=OUTPUT_FILE, help="Also write the prediction for each image (CSV).")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on this port during the run (0 picks a free one).",
)
@click.option("--pushgateway", help="Push the metrics to this Prometheus Pushgateway (URL) at the end.")
@gathered("outputs", Outputs)
@measuring
def run(
    console: Console,
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
    outputs: Outputs,
) -> int:
    """Replay images through a server and report throughput, latency and accuracy.

    By default (closed loop), a new request follows each answer. With --rate (open loop), requests are sent by the
    clock, and the latency of each counts from when it was due, so that a stalled server shows.

    Exits with 1 if a request failed, and with 130 after Ctrl-C, which still reports what was measured.
    """
    if sum(option is not None for option in (epochs, requests, seconds)) > 1:
        raise click.UsageError("--epochs, --requests and --seconds cannot be combined")
    if until_stable and seconds is None:
        raise click.UsageError("--until-stable needs --seconds, the maximum length")
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
    found = replay(prepared.dataset, settings, prepared.model, console, outputs=outputs, reference=known)
    if found.result.interrupted:
        return INTERRUPTED
    return 1 if found.tally.failed else 0


@bench.command()
@click.option("--model-repository", type=EXISTING_FOLDER, default=Path("model_repo"), show_default=True)
@click.option("--model", default="repvgg_a0", show_default=True, help="Name of the model.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("cpu", "sim:310p"),
    show_default=True,
    help="Device to measure; repeatable.",
)
@click.option("--images", type=EXISTING_FOLDER, help="Folder of images (default: the bundled digits).")
@click.option("--labels", type=EXISTING_FILE, help="val_label.txt, to measure top-1 as well.")
@click.option(
    "--seconds",
    type=SECONDS,
    default=5.0,
    show_default=True,
    help="Length of each measurement in seconds.",
)
@click.option("--precision", help="Precision on the device: auto, f32 or bf16.")
@click.option("--output", type=OUTPUT_FILE, help="Also write the rows as JSON.")
@click.option("--markdown", type=OUTPUT_FILE, help="Also write the table as Markdown.")
@gathered("settings", TableSettings)
@measuring
def table(
    console: Console,
    *,
    settings: TableSettings,
    output: Path | None,
    markdown: Path | None,
) -> int:
    """Measure a model on each device at batch sizes 1 and 16, beside the guide's table for a RepVGG-A0.

    Starts a server for each measurement. Simulated devices are marked SIMULATED.
    """
    if settings.labels is not None and settings.images is None:
        raise click.UsageError("--labels needs --images: the bundled images do not belong to this model")
    result = measure_table(settings, console)
    if output is not None:
        write_json(output, result.to_json())
    if markdown is not None:
        markdown.write_text("\n".join(one.markdown() for one in guide_tables(result.rows)), encoding="utf-8")
    if result.interrupted:
        return INTERRUPTED
    return 1 if result.failed else 0


@bench.command()
@click.argument("before", type=EXISTING_FILE)
@click.argument("after", type=EXISTING_FILE)
@measuring
def compare(console: Console, before: Path, after: Path) -> int:
    """Compare two reports of 'bench run', BEFORE and AFTER, figure by figure.

    A change counts as noise if it is no larger than the spread of the windows within one of the runs.
    """
    found = compare_reports(read_json(before, (RUN,)), read_json(after, (RUN,)))
    console.print(comparison_table(found, (before.stem, after.stem)))
    for difference in found.differing:
        console.print(f"Different: {difference}", highlight=False, soft_wrap=True, style="yellow")
    console.print(describe_noise(found), highlight=False, soft_wrap=True)
    return 0


@bench.command()
@click.argument("files", type=EXISTING_FILE, nargs=-1, required=True)
@click.option("--output", type=HTML_FILE, default=Path("report.html"), show_default=True, help="HTML report.")
@measuring
def report(console: Console, files: tuple[Path, ...], output: Path) -> int:
    """Combine JSON reports of any bench commands into one HTML report."""
    write_page(output, [read_json(file) for file in files])
    console.print(f"HTML report written to {output}", highlight=False, soft_wrap=True)
    return 0
