from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from repserve_bench.load_messages import Job
from repserve_bench.mlperf import suite
from repserve_bench.mlperf.logs import DETAIL_LOG, Outcome
from repserve_bench.mlperf.scenario import Conditions, Finished, ScenarioJob, ScenarioName
from repserve_bench.mlperf.suite import ScenarioResult, run_until_valid
from repserve_bench.payloads import InputSettings

LOAD = Job(
    address="127.0.0.1:1",
    groups=(),
    input=InputSettings(),
    transport="unary",
    concurrency=1,
    channels=1,
    requests=0,
    seconds=0.0,
    timeout=1.0,
)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Rates of the runs; LoadGen is stood in for, and calls those of more than 200 queries/s INVALID."""
    rates: list[float] = []

    def run_scenario(job: ScenarioJob) -> Finished:
        rate = job.conditions.server_rate
        rates.append(rate)
        verdict = "INVALID" if rate > 200 else "VALID"
        line = json.dumps({"key": "result_validity", "value": verdict})
        (Path(job.folder) / DETAIL_LOG).write_text(f":::MLLOG {line}", encoding="utf-8")
        return Finished(0, {})

    monkeypatch.setattr(suite, "run_scenario", run_scenario)
    return rates


def run(scenario: ScenarioName, conditions: Conditions, folder: Path) -> tuple[ScenarioResult, str]:
    output = StringIO()
    results = list(run_until_valid(scenario, conditions, LOAD, folder, Console(file=output, width=200)))
    return results[-1], output.getvalue()


def test_the_server_scenario_is_offered_less_until_it_is_valid(tried: list[float], tmp_path: Path) -> None:
    result, output = run("Server", Conditions(expected_rate=500.0), tmp_path)
    assert tried == pytest.approx([250.0, 175.0])
    assert result.valid
    assert result.conditions.server_rate == pytest.approx(175.0)
    assert result.logs == tmp_path / "Server-2"
    assert (tmp_path / "Server" / DETAIL_LOG).exists(), "the logs of the first try are kept"
    assert "Server at 250.0 queries/s: INVALID" in output


def test_lowering_the_rate_ends(tried: list[float], tmp_path: Path) -> None:
    result, _ = run("Server", Conditions(expected_rate=50_000.0), tmp_path)
    assert len(tried) == suite.MOST_RATES
    assert not result.valid


@pytest.mark.parametrize("scenario", ["Server", "Offline"])
def test_a_given_rate_is_the_only_one_tried(scenario: ScenarioName, tried: list[float], tmp_path: Path) -> None:
    result, _ = run(scenario, Conditions(expected_rate=500.0, server_rate=300.0), tmp_path)
    assert tried == [300.0]
    assert not result.valid


def test_a_run_with_failed_requests_is_invalid_even_if_loadgen_calls_it_valid() -> None:
    outcome = Outcome(valid=True, metric="images/s", value=1.0, queries=1, p99_seconds=1.0, remark="")
    result = ScenarioResult("Offline", Conditions(), outcome, Finished(3, {"UNAVAILABLE": "gone"}), Path("logs"))
    assert not result.valid
    assert result.remark == "3 requests failed, the first with UNAVAILABLE: gone"
