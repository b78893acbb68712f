"""``repserve bench sweep`` and ``saturate``: many loads, one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repserve_bench.command import INTERRUPTED, measuring
from repserve_bench.html.page import write_report
from repserve_bench.load_options import SECONDS, load_options, prepare, report_options
from repserve_bench.saturation import find_saturation, saturation_table
from repserve_bench.saturation import warnings as saturation_warnings
from repserve_bench.sweep import OwnServers, sweep_table
from repserve_bench.sweep import sweep as measure_sweep

if TYPE_CHECKING:
    from rich.console import Console

    from repserve_bench.load_options import LoadOptions
    from repserve_bench.series import Series

FOLDER = click.Path(file_okay=False, path_type=Path)
CONCURRENCIES = "1,2,4,8,16,32,64"


def finish_series(
    series: Series, document: dict[str, Any], output: Path, html: Path | None, console: Console, *, passed: bool
) -> int:
    """Print why a series ended early, if it did, write its report, and return the command's exit status.

    Raises:
        OSError: A file cannot be written.
    """
    if series.error:
        console.print(f"Ended early: {series.error}", highlight=False, soft_wrap=True, style="bold red")
    write_report(document, output, html, console)
    if series.interrupted:
        return INTERRUPTED
    return 0 if passed and not series.error else 1


def _parse_concurrencies(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"expected whole numbers from 1, such as 1,4,16, not {text!r}")
    return [int(part) for part in parts]


def _parse_setting(text: str) -> tuple[str, list[str]]:
    name, _, values = text.partition("=")
    found = [value for value in values.split(",") if value]
    if not name or not found:
        raise click.BadParameter(f"expected SETTING=VALUE,VALUE, such as max-batch-size=1,16, not {text!r}")
    return name.strip().removeprefix("--").replace("-", "_"), found


@click.command()
@load_options
@click.option(
    "--concurrency",
    default=CONCURRENCIES,
    show_default=True,
    callback=_parse_concurrencies,
    help="Numbers of requests in flight, separated by commas.",
)
@click.option("--seconds", type=SECONDS, default=5.0, show_default=True, help="Length of each measurement in seconds.")
@click.option("--device", help="Start a server on this device for each combination, instead of using --server.")
@click.option("--model-repository", type=FOLDER, default=Path("model_repo"), show_default=True, help="With --device.")
@click.option(
    "--vary",
    multiple=True,
    metavar="SETTING=VALUE,VALUE",
    help="With --device: a setting of repserve serve to vary, such as max-batch-size=1,16. Repeatable.",
)
@report_options("sweep.json")
@measuring
def sweep(
    console: Console,
    *,
    load: LoadOptions,
    concurrency: list[int],
    seconds: float,
    device: str | None,
    model_repository: Path,
    vary: tuple[str, ...],
    output: Path,
    html: Path | None,
) -> int:
    """Measure throughput and latency at several concurrencies and server settings.

    Exits with 1 if a request failed, and with 130 after Ctrl-C.
    """
    varied = dict(_parse_setting(text) for text in vary)
    if device is not None and not model_repository.is_dir():
        raise click.UsageError(f"--model-repository: there is no folder {model_repository}")
    if varied and device is None:
        raise click.UsageError("--vary needs --device: it varies the settings of servers that the sweep starts")
    own = None if device is None else OwnServers(model_repository, device, varied)
    found = measure_sweep(load, own, concurrency, seconds, console)
    document = found.to_json()
    console.print(sweep_table(document))
    return finish_series(found, document, output, html, console, passed=not found.failed)


@click.command()
@load_options
@click.option("--p99-ms", type=SECONDS, required=True, help="Highest p99 in milliseconds.")
@click.option(
    "--start", type=SECONDS, default=50.0, show_default=True, help="First rate to try, in requests per second."
)
@click.option("--seconds", type=SECONDS, default=5.0, show_default=True, help="Length of each step in seconds.")
@click.option(
    "--in-flight", type=click.IntRange(1), default=4096, show_default=True, help="Maximum number of requests in flight."
)
@report_options("saturate.json")
@measuring
def saturate(
    console: Console,
    *,
    load: LoadOptions,
    p99_ms: float,
    start: float,
    seconds: float,
    in_flight: int,
    output: Path,
    html: Path | None,
) -> int:
    """Find the highest rate of random (Poisson) requests at which the p99 stays within a bound.

    Exits with 1 if no rate passed, and with 130 after Ctrl-C.
    """
    prepared = prepare(load)
    found = find_saturation(
        prepared, console, p99_bound=p99_ms / 1000, seconds=seconds, start=start, in_flight=in_flight
    )
    title = f"{prepared.model.name} at {load.server}, p99 up to {p99_ms:g} ms"
    document = found.to_json(prepared.model)
    console.print(saturation_table(document, ("SIMULATED: " if document["simulated"] else "") + title))
    for line in saturation_warnings(document):
        console.print(line, highlight=False, soft_wrap=True)
    answer = f"{found.best:.1f} requests/s" if found.best else "no rate passed"
    cut_short = "; the search was interrupted, and a higher rate may pass" if found.interrupted or found.error else ""
    console.print(f"Highest rate: {answer}{cut_short}", highlight=False, style="bold")
    return finish_series(found, document, output, html, console, passed=found.best is not None)
