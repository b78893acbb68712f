"""Statistics: what a request adds, and sums over processes that come and go."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.dataplane.scores import BatchScores, ImageScores
from repserve_server.dataplane.statistics import Statistics
from repserve_server.statistics import Duration, ModelStatistics, StatisticsTotals
from support.fakes import FakeClock

BATCH = BatchScores(np.zeros((4, 2), np.float32), "logits")


def scores(queue: float, compute: float, finished: float) -> ImageScores:
    return ImageScores(BATCH, 0, 1, queue, compute, finished)


def test_a_request_of_several_batches_counts_once_with_the_times_of_the_last() -> None:
    clock = FakeClock(100.0)
    statistics = Statistics(clock)
    with statistics.attempt("digits", "1") as attempt:
        clock.advance(1.0)
        attempt.succeed([scores(0.1, 0.2, 100.5), scores(0.3, 0.2, 100.75)], 0.05)
    (entry,) = [ModelStatistics.from_body(body) for body in statistics.to_body()]
    assert (entry.name, entry.version, entry.inferences) == ("digits", "1", 2)
    assert entry.success == Duration(1, 1_000_000_000)
    assert entry.queue == Duration(1, 300_000_000)
    assert entry.compute_infer == Duration(1, 200_000_000)
    assert entry.compute_input == Duration(1, 50_000_000)
    assert entry.compute_output == Duration(1, 250_000_000)
    assert entry.fail == Duration()
    assert entry.last_inference > 1_600_000_000_000


def test_a_request_that_raises_has_failed() -> None:
    clock = FakeClock()
    statistics = Statistics(clock)
    with pytest.raises(ValueError, match="bad"), statistics.attempt("digits", "1"):  # noqa: PT012 - time passes in it
        clock.advance(0.5)
        raise ValueError("bad")
    (entry,) = [ModelStatistics.from_body(body) for body in statistics.to_body()]
    assert (entry.fail, entry.success) == (Duration(1, 500_000_000), Duration())


durations = st.builds(Duration, st.integers(0, 1000), st.integers(0, 10**12))
entries = st.builds(
    ModelStatistics,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["1", "2"]),
    st.integers(0, 10**13),
    st.integers(0, 10**6),
    *([durations] * 6),
    st.dictionaries(st.integers(1, 16), durations, max_size=4),
)


@given(entries)
def test_statistics_survive_their_trip_through_a_message(entry: ModelStatistics) -> None:
    assert ModelStatistics.from_body(json.loads(json.dumps(entry.to_body()))) == entry


@given(st.lists(st.tuples(st.sampled_from("pqr"), entries, st.booleans()), max_size=12))
def test_totals_never_fall_when_processes_end(steps: list[tuple[str, ModelStatistics, bool]]) -> None:
    totals = StatisticsTotals()
    live: dict[str, int] = {}
    ended = 0
    for process, entry, end in steps:
        totals.update(process, [entry.to_body()])
        live[process] = entry.inferences
        if end:
            totals.end(process)
            ended += live.pop(process)
        assert sum(total.inferences for total in totals.totals()) == ended + sum(live.values())


def test_totals_add_up_by_model_and_version() -> None:
    totals = StatisticsTotals()
    first = ModelStatistics("a", "1", last_inference=5, inferences=3, batches={16: Duration(2, 20)})
    second = ModelStatistics("a", "1", last_inference=9, inferences=4, batches={16: Duration(1, 5), 1: Duration(1, 1)})
    totals.update("p", [first.to_body()])
    totals.update("q", [second.to_body(), ModelStatistics("a", "2").to_body()])
    one, two = totals.totals()
    assert (one.inferences, one.last_inference) == (7, 9)
    assert one.batches == {16: Duration(3, 25), 1: Duration(1, 1)}
    assert two == ModelStatistics("a", "2")
