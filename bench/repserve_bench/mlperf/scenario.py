"""The scenarios of MLPerf LoadGen and the conditions of their runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from mlperf_loadgen import TestSettings

    from repserve_bench.load_messages import Job

ScenarioName = Literal["SingleStream", "MultiStream", "Offline", "Server"]
SCENARIOS: tuple[ScenarioName, ...] = get_args(ScenarioName)

OFFLINE_MARGIN = 1.5
"""How much faster than expected a server may be without the Offline scenario ending too soon."""
LOADED_SAMPLES = 1024
"""Images that LoadGen draws from; what MLPerf requires for ResNet-50."""


@dataclass(frozen=True)
class Conditions:
    """Length and bounds of a run.

    The defaults are those of MLPerf Inference for image classification, but for the length: an official run lasts
    600 s.
    """

    seconds: float = 10.0
    """Least length of a scenario."""
    queries: int = 662
    """Least number of queries. With fewer, LoadGen cannot compute the p99 of MultiStream and reports INVALID."""
    samples_per_query: int = 8
    """Images of a MultiStream query."""
    server_rate: float = 0.0
    """Queries per second of the Server scenario; 0 if not chosen yet."""
    server_latency: float = 0.015
    """Seconds within which 99 % of the Server scenario's queries must complete."""
    expected_rate: float = 1.0
    """Images per second that the server is expected to answer; sets the size of the Offline query."""


@dataclass(frozen=True)
class ScenarioJob:
    """One run of LoadGen, for a process of its own."""

    scenario: ScenarioName
    accuracy: bool
    """Whether to send each image once and log the answers, instead of measuring."""
    conditions: Conditions
    folder: str
    """Where LoadGen writes its logs; it exists."""
    load: Job
    """Where and how the images are sent."""


@dataclass(frozen=True)
class Finished:
    """The failures of a run, which LoadGen does not log."""

    failed: int
    """Requests that failed; LoadGen counts them as answered."""
    failures: dict[str, str]
    """The first message of each status."""


def test_settings(job: ScenarioJob) -> TestSettings:
    """Return LoadGen's settings for a run."""
    import mlperf_loadgen as loadgen

    conditions = job.conditions
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, job.scenario)
    settings.mode = loadgen.TestMode.AccuracyOnly if job.accuracy else loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1000 * conditions.seconds)
    settings.min_query_count = conditions.queries
    settings.multi_stream_samples_per_query = conditions.samples_per_query
    if job.scenario == "Server":
        settings.server_target_qps = conditions.server_rate
    settings.server_target_latency_ns = round(1e9 * conditions.server_latency)
    settings.offline_expected_qps = OFFLINE_MARGIN * conditions.expected_rate
    return settings
