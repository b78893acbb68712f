"""``repserve bench mlperf``: one run of LoadGen after the other, and what came of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from repserve_bench.environment import describe_environment
from repserve_bench.load import make_jobs, run_load
from repserve_bench.mlperf.logs import INVALID, VALID, Outcome, read_outcome, read_top1
from repserve_bench.mlperf.process import Finished, run_scenario
from repserve_bench.mlperf.scenario import Conditions, ScenarioJob
from repserve_bench.progress import make_display
from repserve_bench.report_file import MLPERF, SCHEMA_VERSION
from repserve_bench.served_model import describe_instances, is_simulated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from repserve_bench.load_options import Prepared
    from repserve_bench.mlperf.scenario import ScenarioName

EXPLORING_SECONDS = 3.0
SERVER_SHARE = 0.5
"""Of the throughput found, offered in the Server scenario where no rate is given."""


@dataclass(frozen=True)
class ScenarioResult:
    """What came of one scenario."""

    scenario: ScenarioName
    outcome: Outcome
    finished: Finished
    top1: float | None
    """Of an accuracy run; None without one."""

    @property
    def valid(self) -> bool:
        """Whether LoadGen calls the run valid and no request failed: LoadGen counts failed ones as answered."""
        return self.outcome.valid and not self.finished.failed

    @property
    def remark(self) -> str:
        """Why it is not valid."""
        if self.finished.failed:
            status, message = next(iter(self.finished.failures.items()))
            return f"{self.finished.failed} requests failed, the first with {status}: {message}"
        return self.outcome.remark


@dataclass
class Suite:
    """The scenarios in the order in which they were run."""

    conditions: Conditions
    results: list[ScenarioResult] = field(default_factory=list)
    interrupted: bool = False


def run_suite(
    prepared: Prepared,
    scenarios: Sequence[ScenarioName],
    conditions: Conditions,
    folder: Path,
    console: Console,
    *,
    accuracy: bool,
) -> Suite:
    """Runs the scenarios; after Ctrl-C those that were finished are returned.

    Args:
        prepared: Images, model and how to send.
        scenarios: Which to run.
        conditions: What each is asked for; a server_rate of 0 is chosen here.
        folder: Gets a folder of LoadGen's logs for each run; those of an earlier run are overwritten.
        console: Where progress is shown.
        accuracy: Whether each scenario is also run for its top-1.

    Raises:
        LoadError: A run could not be made, or a load process failed.
        OSError: The folder cannot be written.
    """
    settings = replace(prepared.settings, seconds=EXPLORING_SECONDS, requests=0)
    console.print(f"Warming up and finding the throughput for {EXPLORING_SECONDS:g} s", highlight=False)
    with make_display(console, requests=0, seconds=EXPLORING_SECONDS, accuracy=False) as display:
        rate = run_load(prepared.dataset.samples, settings, display).fps
    conditions = replace(
        conditions, expected_rate=rate, server_rate=conditions.server_rate or max(1.0, SERVER_SHARE * rate)
    )
    load = make_jobs(prepared.dataset.samples, replace(settings, processes=1))[0]
    suite = Suite(conditions)
    try:
        for scenario in scenarios:
            console.print(f"{scenario}: at least {conditions.seconds:g} s", highlight=False)
            own = folder / scenario
            job = ScenarioJob(scenario, accuracy=False, conditions=conditions, folder=_make(own), load=load)
            finished = run_scenario(job)
            top1 = None
            if accuracy:
                answers = own / "accuracy"
                run_scenario(replace(job, accuracy=True, folder=_make(answers)))
                top1 = read_top1(answers, [sample.label for sample in prepared.dataset.samples])
            suite.results.append(ScenarioResult(scenario, read_outcome(own, scenario), finished, top1))
    except KeyboardInterrupt:
        if not suite.results:
            raise
        suite.interrupted = True
    return suite


def suite_table(suite: Suite, title: str) -> Table:
    """Returns the results as a table for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("scenario", "result", "metric"):
        table.add_column(column)
    for column in ("value", "p99 ms", "queries", "top-1"):
        table.add_column(column, justify="right")
    for result in suite.results:
        outcome = result.outcome
        table.add_row(
            result.scenario,
            VALID if result.valid else INVALID,
            outcome.metric,
            "-" if outcome.value is None else f"{outcome.value:.2f}",
            "-" if outcome.p99_seconds is None else f"{1000 * outcome.p99_seconds:.2f}",
            f"{outcome.queries}",
            "-" if result.top1 is None else f"{100 * result.top1:.2f} %",
            style="" if result.valid else "red",
        )
    return table


def suite_json(suite: Suite, prepared: Prepared) -> dict[str, object]:
    """Returns everything as JSON values."""
    model = prepared.model
    return {
        "schema": MLPERF,
        "schema_version": SCHEMA_VERSION,
        "environment": describe_environment(),
        "settings": asdict(prepared.settings),
        "model": {
            "name": model.name,
            "version": model.version,
            "simulated": is_simulated(model),
            **describe_instances(model),
        },
        "conditions": asdict(suite.conditions),
        "interrupted": suite.interrupted,
        "scenarios": [
            {
                "scenario": result.scenario,
                "result": VALID if result.valid else INVALID,
                "remark": result.remark,
                "metric": result.outcome.metric,
                "value": result.outcome.value,
                "queries": result.outcome.queries,
                "p99_seconds": result.outcome.p99_seconds,
                "failed_requests": result.finished.failed,
                "top1": result.top1,
            }
            for result in suite.results
        ],
    }


def _make(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)
