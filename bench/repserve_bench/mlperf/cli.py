"""The command ``repserve bench mlperf``."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_bench.command import gathered, measuring
from repserve_bench.load_commands import finish_series
from repserve_bench.load_options import SECONDS, load_options, prepare, report_options
from repserve_bench.mlperf.scenario import SCENARIOS, Conditions
from repserve_bench.mlperf.suite import run_suite, suite_json, suite_table
from repserve_bench.served_model import accuracy_missing, is_simulated

if TYPE_CHECKING:
    from rich.console import Console

    from repserve_bench.load_options import LoadOptions
    from repserve_bench.mlperf.scenario import ScenarioName

DEFAULTS = Conditions()


@click.command()
@load_options
@click.option(
    "--scenario",
    "scenarios",
    type=click.Choice(SCENARIOS),
    multiple=True,
    default=SCENARIOS,
    show_default=True,
    help="Scenario to run; repeatable.",
)
@click.option(
    "--seconds",
    type=SECONDS,
    default=DEFAULTS.seconds,
    show_default=True,
    help="Minimum length of each scenario in seconds.",
)
@click.option(
    "--queries", type=click.IntRange(1), default=DEFAULTS.queries, show_default=True, help="Minimum number of queries."
)
@click.option(
    "--samples-per-query",
    type=click.IntRange(1),
    default=DEFAULTS.samples_per_query,
    show_default=True,
    help="Images in a MultiStream query.",
)
@click.option(
    "--server-rate",
    type=SECONDS,
    callback=lambda _context, _parameter, rate: rate or 0.0,
    help="Rate of Server in queries/s (default: half of the throughput, lowered until VALID).",
)
@click.option(
    *("--server-latency-ms", "server_latency"),
    type=SECONDS,
    callback=lambda _context, _parameter, milliseconds: milliseconds / 1000,
    default=1000 * DEFAULTS.server_latency,
    show_default=True,
    help="Latency bound of Server in ms, for 99 % of the queries.",
)
@click.option("--accuracy", is_flag=True, help="Also measure the top-1 of each scenario.")
@click.option(
    "--in-flight", type=click.IntRange(1), default=256, show_default=True, help="Maximum number of requests in flight."
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("mlperf"),
    show_default=True,
    help="Folder for LoadGen's logs, with a folder for each scenario.",
)
@report_options("mlperf.json")
@gathered("conditions", Conditions)
@measuring
def mlperf(
    console: Console,
    *,
    load: LoadOptions,
    scenarios: tuple[ScenarioName, ...],
    conditions: Conditions,
    accuracy: bool,
    in_flight: int,
    logs: Path,
    output: Path,
    html: Path | None,
) -> int:
    """Run MLPerf's LoadGen against the server.

    This is not an official result, which needs more queries, 600 seconds and a review.

    Exits with 1 if a scenario is INVALID, and with 130 after Ctrl-C.
    """
    if find_spec("mlperf_loadgen") is None:
        raise click.ClickException("LoadGen is not installed: pip install 'repserve[bench,mlperf]'")
    if load.images_per_request > 1:
        raise click.UsageError("LoadGen chooses the number of images per request: leave --images-per-request out")
    prepared = prepare(load)
    missing = accuracy_missing(prepared.model, labelled=prepared.dataset.labelled)
    if accuracy and missing:
        console.print(f"top-1 is {missing}", highlight=False, soft_wrap=True)
    prepared = replace(prepared, settings=replace(prepared.settings, concurrency=in_flight))
    suite = run_suite(prepared, scenarios, conditions, logs, console, accuracy=accuracy and not missing)
    document = suite_json(suite, prepared)
    simulated = "SIMULATED: " if is_simulated(prepared.model) else ""
    console.print(suite_table(document, f"{simulated}{prepared.model.name} at {load.server}, driven by LoadGen"))
    console.print(f"LoadGen's logs are in {logs}", highlight=False, soft_wrap=True)
    valid = all(result.valid for result in suite.results)
    return finish_series(suite, document, output, html, console, passed=valid)
