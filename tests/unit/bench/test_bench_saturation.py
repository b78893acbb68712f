from __future__ import annotations

import io
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from repserve_bench.dataset import Dataset, Sample
from repserve_bench.errors import LoadError
from repserve_bench.load import LoadResult
from repserve_bench.load_messages import LoadSettings
from repserve_bench.load_options import Prepared
from repserve_bench.saturation import Saturation, find_saturation, highest_passing, judge
from repserve_bench.tally import Tally
from repserve_bench.windows import Stability
from repserve_client.results import ModelInfo


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
    ("result", "message"),
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
def test_a_step_passes_or_says_why_not(result: LoadResult, message: str) -> None:
    complaint = judge(result, seconds=2.0, p99_bound=0.05)
    assert complaint.startswith(message)
    assert bool(complaint) == bool(message)


MODEL = ModelInfo("m", "1", ready=True, reason="", crop=224, classes=10, instances=())


class Loads:
    """Stands in for run_load: one outcome after the other, and passing ones at last."""

    def __init__(self, *outcomes: LoadResult | Exception) -> None:
        self._outcomes = list(outcomes)
        self.offered: list[tuple[float, float]] = []
        """Rate and length of each load."""

    def __call__(self, _: object, settings: LoadSettings, __: object) -> LoadResult:
        assert settings.arrivals is not None
        self.offered.append((settings.arrivals.rate, settings.seconds))
        outcome = self._outcomes.pop(0) if self._outcomes else load([0.01] * 200)
        if isinstance(outcome, Exception):
            raise outcome
        return replace(outcome, elapsed=settings.seconds)


def search(monkeypatch: pytest.MonkeyPatch, loads: Loads, *, start: float = 50.0) -> Saturation:
    monkeypatch.setattr("repserve_bench.measurement.run_load", loads)
    dataset = Dataset((Sample(Path("a.jpg")),))
    prepared = Prepared(dataset, MODEL, LoadSettings("127.0.0.1:1"), 1)
    console = Console(file=io.StringIO())
    return find_saturation(prepared, console, p99_bound=0.05, seconds=1.0, start=start, in_flight=64)


SLOW = load([1.0] * 200)


def test_a_rate_that_fails_once_is_offered_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(SLOW, load([0.01] * 200), SLOW, SLOW)
    found = search(monkeypatch, loads)
    assert [rate for rate, _ in loads.offered[:4]] == [50.0, 50.0, 100.0, 100.0]
    assert found.best is not None
    assert 50.0 < found.best < 100.0
    assert any(step["rate"] == found.best and not step["complaint"] for step in found.steps)


def test_a_step_has_enough_requests_for_a_p99(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads()
    found = search(monkeypatch, loads)
    assert loads.offered[:4] == [(50.0, 4.0), (100.0, 2.0), (200.0, 1.0), (400.0, 1.0)]
    assert [step["sent_per_second"] for step in found.steps[:3]] == [50.0, 100.0, 200.0], "as it came out"


def test_what_was_found_before_an_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(monkeypatch, Loads(load([0.01] * 200), LoadError("no server answers")))
    assert (found.best, found.error, found.interrupted) == (50.0, "no server answers", False)
    with pytest.raises(LoadError):
        search(monkeypatch, Loads(LoadError("no server answers")))


def test_a_search_in_which_nothing_passes_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(*[SLOW] * 100)
    found = search(monkeypatch, loads, start=32.0)
    assert found.best is None
    assert [rate for rate, _ in loads.offered] == [32, 32, 16, 16, 8, 8, 4, 4, 2, 2]
    assert max(length for _, length in loads.offered) == 4.0
    assert found.settings.concurrency == 64
