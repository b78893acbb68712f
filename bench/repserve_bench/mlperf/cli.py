"""The command ``repserve bench mlperf``."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_bench.command import INTERRUPTED, exit_with
from repserve_bench.html.page import write_page
from repserve_bench.load_options import HTML_FILE, OUTPUT_FILE, SECONDS, load_options, prepare
from repserve_bench.mlperf.scenario import SCENARIOS, Conditions
from repserve_bench.mlperf.suite import run_suite, suite_json, suite_table
from repserve_bench.report_file import write_json
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
    help="Which to run; may be given several times.",
)
@click.option("--seconds", type=SECONDS, default=DEFAULTS.seconds, show_default=True, help="Least length of each.")
@click.option(
    "--queries", type=click.IntRange(1), default=DEFAULTS.queries, show_default=True, help="Least number of queries."
)
@click.option(
    "--samples-per-query",
    type=click.IntRange(1),
    default=DEFAULTS.samples_per_query,
    show_default=True,
    help="Images of a MultiStream query.",
)
@click.option(
    "--server-rate",
    type=SECONDS,
    help="Queries/s of Server; by default half of the throughput, and less until VALID.",
)
@click.option(
    "--server-latency-ms",
    type=SECONDS,
    default=1000 * DEFAULTS.server_latency,
    show_default=True,
    help="What 99 % of the queries of Server may take.",
)
@click.option("--accuracy", is_flag=True, help="Also run each scenario for its top-1.")
@click.option("--in-flight", type=click.IntRange(1), default=256, show_default=True, help="Most requests in flight.")
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("mlperf"),
    show_default=True,
    help="Folder for LoadGen's own logs, a folder for each scenario.",
)
@click.option("--output", type=OUTPUT_FILE, default=Path("mlperf.json"), show_default=True, help="The figures.")
@click.option("--html", type=HTML_FILE, help="Also write them as one HTML file.")
def mlperf(
    *,
    load: LoadOptions,
    scenarios: tuple[ScenarioName, ...],
    seconds: float,
    queries: int,
    samples_per_query: int,
    server_rate: float | None,
    server_latency_ms: float,
    accuracy: bool,
    in_flight: int,
    logs: Path,
    output: Path,
    html: Path | None,
) -> None:
    """Let MLPerf's LoadGen drive the server, by its own rules.

    An official result takes more queries, 600 seconds and a review; this one is for yourself.

    Exits with 1 when a scenario is INVALID, and with 130 after Ctrl-C.
    """
    if find_spec("mlperf_loadgen") is None:
        raise click.ClickException("LoadGen is not installed: pip install 'repserve[bench,mlperf]'")
    if load.images_per_request > 1:
        raise click.UsageError("--images-per-request is LoadGen's to choose: leave it out")

    def measure(console: Console) -> int:
        prepared = prepare(load)
        missing = accuracy_missing(prepared.model, labelled=prepared.dataset.labelled)
        if accuracy and missing:
            console.print(f"top-1 is {missing}", highlight=False, soft_wrap=True)
        prepared = replace(prepared, settings=replace(prepared.settings, concurrency=in_flight))
        conditions = Conditions(
            seconds=seconds,
            queries=queries,
            samples_per_query=samples_per_query,
            server_rate=server_rate or 0.0,
            server_latency=server_latency_ms / 1000,
        )
        suite = run_suite(prepared, scenarios, conditions, logs, console, accuracy=accuracy and not missing)
        document = suite_json(suite, prepared)
        simulated = "SIMULATED: " if is_simulated(prepared.model) else ""
        console.print(suite_table(suite, f"{simulated}{prepared.model.name} at {load.server}, driven by LoadGen"))
        if suite.error:
            console.print(f"Ended early: {suite.error}", highlight=False, soft_wrap=True)
        write_json(output, document)
        console.print(f"Figures written to {output}, LoadGen's logs to {logs}", highlight=False, soft_wrap=True)
        if html is not None:
            write_page(html, [document])
            console.print(f"HTML report written to {html}", highlight=False, soft_wrap=True)
        if suite.interrupted:
            return INTERRUPTED
        return 0 if not suite.error and all(result.valid for result in suite.results) else 1

    exit_with(measure)
