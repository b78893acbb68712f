"""``repserve bench mlperf``: runs of LoadGen and their results."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from repserve_bench.column import make_document, rich_table
from repserve_bench.errors import LoadError
from repserve_bench.figures import report_head
from repserve_bench.load import make_jobs
from repserve_bench.measurement import measure
from repserve_bench.mlperf.logs import SCENARIO_COLUMNS, VALID, Outcome, read_outcome, read_top1
from repserve_bench.mlperf.process import run_scenario
from repserve_bench.mlperf.scenario import Conditions, Finished, ScenarioJob
from repserve_bench.report_file import MLPERF
from repserve_bench.series import Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from repserve_bench.dataset import Sample
    from repserve_bench.load_messages import Job
    from repserve_bench.load_options import Prepared
    from repserve_bench.mlperf.scenario import ScenarioName

EXPLORING_SECONDS = 3.0
SERVER_SHARE = 0.5
"""First rate of the Server scenario, as a share of the measured throughput, if none is given."""
LOWERED = 0.7
"""Factor from a rate that was INVALID to the next one, if no rate is given."""
MOST_RATES = 5
"""Maximum number of rates of the Server scenario; the last is an eighth of the throughput."""


@dataclass(frozen=True)
class ScenarioResult:
    """The result of one scenario."""

    scenario: ScenarioName
    conditions: Conditions
    outcome: Outcome
    finished: Finished
    logs: Path
    """Folder of LoadGen's logs."""
    top1: float | None = None
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

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return make_document(SCENARIO_COLUMNS, self)


@dataclass
class Suite(Series):
    """The scenarios in the order in which they were run."""

    results: list[ScenarioResult] = field(default_factory=list)


def run_suite(
    prepared: Prepared,
    scenarios: Sequence[ScenarioName],
    conditions: Conditions,
    folder: Path,
    console: Console,
    *,
    accuracy: bool,
) -> Suite:
    """Run the scenarios; after Ctrl-C, or an error, those that were finished are returned.

    Args:
        prepared: Images, model and how to send.
        scenarios: Which to run.
        conditions: Length and bounds. With a server_rate of 0, lower and lower rates are tried until one is valid.
        folder: Gets a folder of LoadGen's logs for each run; those of an earlier run are overwritten.
        console: Where progress is shown.
        accuracy: Whether each scenario is also run for its top-1.

    Raises:
        LoadError: Nothing was answered, or the first run could not be made.
        OSError: The folder cannot be written.
    """
    settings = replace(prepared.settings, seconds=EXPLORING_SECONDS, requests=0)
    console.print(f"Warming up and finding the throughput for {EXPLORING_SECONDS:g} s", highlight=False)
    explored = measure(prepared.dataset, settings, prepared.model, console).result
    if not explored.fps:
        failures = "; ".join(f"{status}: {message}" for status, message in explored.tally.failures.items())
        raise LoadError(f"the server answered nothing: {failures or 'no request came back'}")
    conditions = replace(conditions, expected_rate=explored.fps)
    load = make_jobs(prepared.dataset.samples, replace(settings, processes=1))[0]
    suite = Suite()
    with suite.kept(suite.results):
        for scenario in scenarios:
            runs = run_until_valid(scenario, conditions, load, folder, console)
            suite.results.append(next(runs))
            for result in runs:
                suite.results[-1] = result
            if accuracy:
                suite.results[-1] = with_top1(suite.results[-1], load, prepared.dataset.samples)
    return suite


def run_until_valid(
    scenario: ScenarioName, conditions: Conditions, load: Job, folder: Path, console: Console
) -> Iterator[ScenarioResult]:
    """Run a scenario; Server without a rate is repeated at lower and lower rates until it is valid.

    Yields:
        The result of each run; the last one counts. Each has its own folder of logs.
    """
    for number, rate in enumerate(_rates_to_try(scenario, conditions), start=1):
        title = f"{scenario} at {rate:.1f} queries/s" if scenario == "Server" else scenario
        console.print(f"{title}: at least {conditions.seconds:g} s", highlight=False)
        own = folder / (scenario if number == 1 else f"{scenario}-{number}")
        offered = replace(conditions, server_rate=rate)
        finished = run_scenario(ScenarioJob(scenario, False, offered, _make(own), load))
        result = ScenarioResult(scenario, offered, read_outcome(own, scenario), finished, own)
        yield result
        if result.valid:
            break
        console.print(f"{title}: INVALID. {result.remark}", highlight=False, soft_wrap=True)


def _rates_to_try(scenario: ScenarioName, conditions: Conditions) -> list[float]:
    if scenario != "Server" or conditions.server_rate:
        return [conditions.server_rate]
    highest = SERVER_SHARE * conditions.expected_rate
    return list(dict.fromkeys(max(1.0, highest * LOWERED**number) for number in range(MOST_RATES)))


def with_top1(result: ScenarioResult, load: Job, samples: Sequence[Sample]) -> ScenarioResult:
    """Run a scenario once more, with each image once, and count the right answers.

    A request that fails has no answer that could be right or wrong: it makes the whole scenario invalid.
    """
    folder = result.logs / "accuracy"
    finished = run_scenario(ScenarioJob(result.scenario, True, result.conditions, _make(folder), load))
    if finished.failed:
        failures = finished.failures | result.finished.failures
        return replace(result, finished=Finished(finished.failed + result.finished.failed, failures))
    return replace(result, top1=read_top1(folder, [sample.label for sample in samples]))


def suite_table(document: Mapping[str, Any], title: str) -> Table:
    """Return the results as a table for a terminal."""
    shown = [column for column in SCENARIO_COLUMNS if column.heading and column.key != "remark"]
    return rich_table(shown, document["scenarios"], title, lambda row: "" if row["result"] == VALID else "red")


def suite_json(suite: Suite, prepared: Prepared) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        **report_head(MLPERF, prepared.settings, prepared.model),
        "interrupted": suite.interrupted,
        "error": suite.error,
        "scenarios": [result.to_json() for result in suite.results],
    }


def _make(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)
