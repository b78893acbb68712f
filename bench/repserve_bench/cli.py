"""``repserve bench``: replays of a labelled image set, and the guide's table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from repserve_bench.dataset import DatasetError, load_dataset
from repserve_bench.guide_table import markdown_table
from repserve_bench.load import LoadError, LoadSettings
from repserve_bench.offline.cli import offline
from repserve_bench.payloads import InputSettings
from repserve_bench.report import write_json
from repserve_bench.run import replay
from repserve_bench.served_model import choose_model, list_models
from repserve_bench.server_process import ServerError
from repserve_bench.table import TableSettings, measure_table

if TYPE_CHECKING:
    from collections.abc import Callable


INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells expect."""
LEAST_WIDTH = 120
"""Columns of a table that is not printed to a terminal, so that no figure is cut."""

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.group()
def bench() -> None:
    """Measure throughput, latency and accuracy through a server."""


bench.add_command(offline)


@bench.command()
@click.option("--images", type=EXISTING_FOLDER, required=True, help="Folder of images.")
@click.option("--labels", type=EXISTING_FILE, help="val_label.txt: a line 'NAME LABEL' for each image.")
@click.option("--server", default="127.0.0.1:8001", show_default=True, help="host:port of the server's gRPC.")
@click.option("--model", default="", help="Name of the model; needed when several are ready.")
@click.option("--model-version", default="", help="Version of the model; the newest served by default.")
@click.option("--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Requests in flight.")
@click.option("--limit", type=click.IntRange(1), help="Take only the first N images.")
@click.option("--repeat", type=click.IntRange(1), help="Replay the images N times (1 by default).")
@click.option("--requests", type=click.IntRange(1), help="Replay in a loop until N requests were sent.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Replay in a loop for so long.")
@click.option(
    "--input",
    "input_kind",
    type=click.Choice(["encoded", "pixels"]),
    default="encoded",
    show_default=True,
    help="Send the files, or uint8 pixels cropped by the client before the clock starts.",
)
@click.option("--images-per-request", type=click.IntRange(1), default=1, show_default=True, help="With pixels.")
@click.option(
    "--transport",
    type=click.Choice(["stream", "unary"]),
    default="stream",
    show_default=True,
    help="Requests on streams, which costs client and server less, or a call each.",
)
@click.option("--processes", default="auto", show_default=True, help="Load processes: auto, or a number.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds a request may take, retries included.",
)
@click.option("--output", type=OUTPUT_FILE, default=Path("report.json"), show_default=True, help="The report.")
@click.option("--predictions", type=OUTPUT_FILE, help="Also write image, predicted index, label, probability (CSV).")
def run(
    *,
    images: Path,
    labels: Path | None,
    server: str,
    model: str,
    model_version: str,
    concurrency: int,
    limit: int | None,
    repeat: int | None,
    requests: int | None,
    seconds: float | None,
    input_kind: str,
    images_per_request: int,
    transport: str,
    processes: str,
    timeout: float,
    output: Path,
    predictions: Path | None,
) -> None:
    """Replay images through a server and report throughput, latency and accuracy.

    Exits with 1 when a request failed, and with 130 after Ctrl-C, which prints what was measured until then.
    """
    if sum(option is not None for option in (repeat, requests, seconds)) > 1:
        raise click.UsageError("--repeat, --requests and --seconds exclude each other")
    if images_per_request > 1 and input_kind == "encoded":
        raise click.UsageError("--images-per-request needs --input pixels: an encoded request carries one image")

    def measure(console: Console) -> int:
        dataset = load_dataset(images, labels, limit=limit)
        console.print(f"Images: {dataset.describe()}", highlight=False, soft_wrap=True)
        served = choose_model(list_models(server), model, model_version)
        passes = -(-len(dataset.samples) // images_per_request)
        settings = LoadSettings(
            address=server,
            concurrency=concurrency,
            requests=0 if seconds else requests or (repeat or 1) * passes,
            seconds=seconds or 0.0,
            stream=transport == "stream",
            processes=_process_count(processes),
            timeout=timeout,
            input=InputSettings(
                model=served.name,
                version=model_version,
                pixels=input_kind == "pixels",
                images_per_request=images_per_request,
                crop=served.crop,
                resize=served.resize or InputSettings.resize,
            ),
        )
        report = replay(dataset, settings, served, console, output=output, predictions=predictions)
        if report.result.interrupted:
            return INTERRUPTED
        return 1 if report.failed else 0

    _exit_with(measure)


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
    type=click.FloatRange(0, min_open=True),
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

    _exit_with(measure)


def make_console() -> Console:
    """Returns a console for stdout, wide enough for the tables where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(LEAST_WIDTH, console.width))


def _process_count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise click.BadParameter(f"expected auto or a number from 1, not {text!r}", param_hint="--processes")
    return int(text)


def _exit_with(measure: Callable[[Console], int]) -> None:
    """Runs a measurement and ends the process with its status; expected errors take one line."""
    try:
        status = measure(make_console())
    except (DatasetError, LoadError, ServerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted before anything was measured", err=True)
        status = INTERRUPTED
    sys.exit(status)
