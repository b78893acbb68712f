from __future__ import annotations

from array import array
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.load import LoadResult
from repserve_bench.saturation import judge
from repserve_bench.search import highest_passing
from repserve_bench.tally import Tally
from repserve_bench.windows import Stability


@given(limit=st.floats(0.01, 1e6), start=st.floats(1, 1000))
def test_the_search_finds_the_limit_to_5_percent(limit: float, start: float) -> None:
    tried: list[float] = []

    def passes(value: float) -> bool:
        tried.append(value)
        return value <= limit

    found = highest_passing(passes, start=start, most_steps=64)
    assert found is not None
    assert limit / 1.0501 <= found <= limit
    assert len(set(tried)) == len(tried), "nothing is tried twice"


def test_the_search_ends_when_nothing_passes() -> None:
    tried: list[float] = []

    def fails(value: float) -> bool:
        tried.append(value)
        return False

    assert highest_passing(fails, start=64.0, most_steps=6) is None
    assert tried == [64, 32, 16, 8, 4, 2]


def test_the_search_ends_when_everything_passes() -> None:
    assert highest_passing(lambda _: True, start=1.0, most_steps=5) == 16.0


def load(latencies: list[float], *, elapsed: float = 2.0, failed: int = 0) -> LoadResult:
    tally = Tally(
        requests=len(latencies) + failed,
        latencies=array("d", latencies),
        statuses=Counter(OK=len(latencies), UNAVAILABLE=failed),
    )
    return LoadResult(
        tally=tally,
        elapsed=elapsed,
        processes=1,
        cpu_seconds=0.1,
        busiest_share=0.1,
        predictions={},
        stability=Stability(1.0, ()),
        requests_kept=True,
    )


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (load([0.01] * 100), ""),
        (load([0.01] * 99 + [0.2]), ""),
        (load([0.01] * 98 + [0.2] * 2), "p99 is above 50 ms"),
        (load([0.01] * 100, failed=1), "1 requests failed"),
        (load([]), "nothing was answered"),
        (load([0.01] * 100, elapsed=2.6), "the last answer came 0.60 s after the last request"),
        (load([0.01] * 3, elapsed=2.0), ""),
    ],
)
def test_a_step_passes_or_says_why_not(result: LoadResult, said: str) -> None:
    step = judge(result, 50.0, seconds=2.0, p99_bound=0.05)
    assert step.complaint.startswith(said)
    assert bool(step.complaint) == bool(said)
    assert step.sent_per_second == result.tally.requests / 2
