from __future__ import annotations

import pickle
from array import array
from collections import Counter

import pytest

from repserve_bench.accuracy import Accuracy
from repserve_bench.tally import Tally


def test_accuracy_counts_the_best_and_the_best_five() -> None:
    accuracy = Accuracy()
    accuracy.add(3, [3, 1, 2, 4, 5])
    accuracy.add(5, [3, 1, 2, 4, 5])
    accuracy.add(6, [3, 1, 2, 4, 5, 6])
    accuracy.add(0, [])
    assert (accuracy.images, accuracy.top1_hits, accuracy.top5_hits) == (4, 1, 2)
    assert accuracy.top1 == 0.25
    assert accuracy.top5 == 0.5


def test_accuracy_of_nothing_is_none() -> None:
    assert Accuracy().top1 is None
    assert Accuracy().top5 is None


def test_percentiles_are_observed_values() -> None:
    tally = Tally(latencies=array("d", range(1, 101)))
    assert tally.percentile(50) == 50
    assert tally.percentile(90) == 90
    assert tally.percentile(99) == 99
    assert tally.percentile(100) == 100
    assert Tally(latencies=array("d", [7.0])).percentile(99) == 7.0
    assert Tally().percentile(99) is None


def part(factor: int) -> Tally:
    return Tally(
        requests=3 * factor,
        images=2 * factor,
        latencies=array("d", [0.1 * factor, 0.2 * factor]),
        ended=array("d", [1.0 * factor, 2.0 * factor]),
        send_lag_seconds=0.5 * factor,
        worst_send_lag=0.25 * factor,
        statuses=Counter(OK=2 * factor, INTERNAL=factor),
        retries=Counter(UNAVAILABLE=factor),
        failures={"INTERNAL": f"message {factor}"},
        accuracy=Accuracy(images=2 * factor, top1_hits=factor, top5_hits=2 * factor),
        changed_answers=factor,
        versions=Counter({str(factor): 2 * factor}),
        batch_sizes=Counter({4: 2 * factor}),
        decode_seconds=1.0 * factor,
        queue_seconds=2.0 * factor,
        compute_seconds=3.0 * factor,
    )


def test_merging_adds_every_count_and_keeps_the_first_message() -> None:
    whole = Tally()
    for factor in (1, 2):
        # Parts arrive from other processes.
        whole.merge(pickle.loads(pickle.dumps(part(factor))))  # noqa: S301
    assert whole.requests == 9
    assert whole.images == 6
    assert list(whole.latencies) == pytest.approx([0.1, 0.2, 0.2, 0.4])
    assert list(whole.ended) == [1.0, 2.0, 2.0, 4.0]
    assert (whole.send_lag_seconds, whole.worst_send_lag) == (1.5, 0.5)
    assert whole.statuses == Counter(OK=6, INTERNAL=3)
    assert whole.failed == 3
    assert whole.retries == Counter(UNAVAILABLE=3)
    assert whole.failures == {"INTERNAL": "message 1"}
    assert whole.accuracy == Accuracy(images=6, top1_hits=3, top5_hits=6)
    assert whole.changed_answers == 3
    assert whole.versions == Counter({"1": 2, "2": 4})
    assert whole.mean_batch_size == 4
    assert (whole.decode_seconds, whole.queue_seconds, whole.compute_seconds) == (3.0, 6.0, 9.0)


def test_means_of_nothing_are_none() -> None:
    assert Tally().mean_per_image(0.0) is None
    assert Tally().mean_batch_size is None
