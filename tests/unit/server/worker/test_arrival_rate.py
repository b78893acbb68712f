from __future__ import annotations

import math

import numpy as np
import pytest

from repserve_server.worker.arrival_rate import ArrivalRate
from repserve_server.worker.planner import BatchCosts
from support.worker_harness import LoopFrontend, LoopHarness

COSTS_310P = {1: 1 / 1919, 16: 16 / 8752}


def test_nothing_has_arrived_at_first() -> None:
    assert ArrivalRate(1.0).per_second(0.0) == 0.0


def test_a_first_burst_is_no_flood() -> None:
    rate = ArrivalRate(10.0)
    rate.add(16, 100.0)
    assert rate.per_second(100.0) == pytest.approx(1.6)


def test_arrivals_fade() -> None:
    rate = ArrivalRate(2.0)
    rate.add(10, 0.0)
    assert rate.per_second(2.0) == pytest.approx(5.0 / math.e)
    rate.add(10, 2.0)
    assert rate.per_second(2.0) == pytest.approx(5.0 + 5.0 / math.e)


def test_a_steady_rate_is_known_after_a_few_memories() -> None:
    rate = ArrivalRate(0.2)
    gaps = np.random.default_rng(0).exponential(1 / 2000, 4000)
    now = 0.0
    estimates = []
    for gap in gaps.tolist():
        now += gap
        rate.add(1, now)
        estimates.append(rate.per_second(now))
    assert np.mean(estimates[2000:]) == pytest.approx(2000, rel=0.03)
    assert np.std(estimates[2000:]) < 0.08 * 2000


def test_how_arrivals_are_grouped_does_not_matter() -> None:
    one, many = ArrivalRate(1.0), ArrivalRate(1.0)
    one.add(7, 3.0)
    for _ in range(7):
        many.add(1, 3.0)
    assert one.per_second(4.0) == pytest.approx(many.per_second(4.0))


def test_the_memory_follows_the_device() -> None:
    rate = ArrivalRate.for_costs(BatchCosts(COSTS_310P))
    rate.add(1, 0.0)
    assert rate.per_second(0.0) == pytest.approx(1 / (100 * 16 / 8752))


def test_the_loop_expects_what_has_arrived_lately() -> None:
    """Four images on a 310P: padded by a worker that was idle, one by one in a steady stream of images."""
    harness = LoopHarness(COSTS_310P)
    frontend = LoopFrontend(harness)
    frontend.submit([0, 1, 2, 3])
    harness.turn()
    generation = 1
    for _ in range(400):
        generation += 1
        harness.clock.advance(1 / 1800)
        frontend.submit([0], generation=generation)
        harness.turn()
    frontend.submit([0, 1, 2, 3], generation=generation + 1)
    harness.turn()
    sizes = [len(batch) for batch in harness.backend.batches]
    assert (sizes[0], sizes[1:-1], sizes[-1]) == (16, [1] * 400, 1)
    harness.close()
