"""Looking ahead: what is chosen when more images are expected, what it promises, and the theory behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.simulation import poisson_arrivals, simulate
from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.channel.messages import CloseReason
from repserve_server.worker.lookahead import PATIENCE, _poisson, _value_of, finish_times, look_ahead
from repserve_server.worker.planner import BatchCosts, Plan, plan

NEVER = math.inf
COSTS_310P = {1: 1 / 1919, 16: 16 / 8752}
MOST_310P = 8752.0
MODEL_ZOO_310 = {size: 4 / 2199 + (64 / 4284 - 4 / 2199) * (size - 1) / 15 for size in (1, 2, 4, 8, 16)}
"""Source: RepVGG-A0 on a 310 card of four chips in Ascend's ModelZoo-PyTorch; on a straight line between 1 and 16."""
FLOAT_ERROR = 1 + 1e-9

costs_of_sizes = st.dictionaries(st.integers(1, 16), st.floats(0.01, 10.0), min_size=1, max_size=5).map(
    lambda drawn: dict(zip(sorted(drawn), sorted(drawn.values()), strict=True))
)
loads = st.floats(0.0, 3.0)


@cache
def costs_of(seconds: tuple[tuple[int, float], ...]) -> BatchCosts:
    return BatchCosts(dict(seconds))


def capacity(costs: BatchCosts) -> float:
    return costs.best_rate / costs.seconds[costs.best_rate]


def follow(costs: BatchCosts, deadlines: Sequence[float], rate: float) -> list[float]:
    """Plan and run until nothing waits, with nothing arriving: when each image is done."""
    done, now = [0.0] * len(deadlines), 0.0
    waiting = list(range(len(deadlines)))
    while waiting:
        chosen = plan([deadlines[image] for image in waiting], costs, now, rate)
        now += costs.seconds[chosen.size]
        for position in chosen.take:
            done[waiting[position]] = now
        waiting = [image for position, image in enumerate(waiting) if position not in chosen.take]
    return done


def test_four_images_on_a_310p_are_padded_if_nothing_is_expected_and_run_one_by_one_if_more_are() -> None:
    """Single runs finish the four 14 % later, but the first of them sooner, and what comes next waits less."""
    costs = BatchCosts(COSTS_310P)
    assert plan([NEVER] * 4, costs, 0.0) == Plan(16, (0, 1, 2, 3), CloseReason.CHEAPEST)
    assert plan([NEVER] * 4, costs, 0.0, 0.01 * MOST_310P) == Plan(16, (0, 1, 2, 3), CloseReason.CHEAPEST)
    assert plan([NEVER] * 4, costs, 0.0, 0.1 * MOST_310P) == Plan(1, (0,), CloseReason.CHEAPEST)
    assert plan([NEVER] * 5, costs, 0.0, 0.1 * MOST_310P) == Plan(16, (0, 1, 2, 3, 4), CloseReason.CHEAPEST)


@pytest.mark.parametrize("load", [0.1, 0.3, 0.5, 0.9, 2.0])
def test_gears_of_a_310p_run_short_of_padding_when_more_is_expected(load: float) -> None:
    published = PUBLISHED_DEVICES["310p"]
    costs = BatchCosts({size: published.batch_seconds(size) for size in (1, 2, 4, 8, 16)})
    sizes = [costs.next_size(waiting, load * MOST_310P) for waiting in range(1, 18)]
    assert sizes == [1, 2, 4, 4, 4, *[8] * 7, *[16] * 5]


def test_a_device_that_hardly_gains_by_batches_fills_them_only_under_load() -> None:
    """The rate matters: on ModelZoo's 310, short runs are best while it is quiet and waste it when it is not."""
    costs = BatchCosts(MODEL_ZOO_310)
    quiet, busy = ([costs.next_size(n, load * capacity(costs)) for n in range(8, 18)] for load in (0.1, 0.9))
    assert max(quiet) == 8
    assert busy[-1] == 16
    assert all(low <= high for low, high in zip(quiet, busy, strict=True))


def test_one_more_image_does_not_bring_back_single_runs() -> None:
    """Once so many wait that they are padded, the 1.2 times would leave room for a single run before that again."""
    costs = BatchCosts({size: MODEL_ZOO_310[size] for size in (1, 16)})
    assert [costs.next_size(waiting, 0.8 * capacity(costs)) for waiting in range(1, 17)] == [1] * 9 + [16] * 7


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_a_device_of_any_size_does_not_look_ahead(load: float) -> None:
    costs = BatchCosts(MODEL_ZOO_310, any_size=True)
    for waiting in range(1, 40):
        assert costs.next_size(waiting, load * capacity(costs)) == costs.next_size(waiting)


@given(seconds=costs_of_sizes, load=loads, waiting=st.integers(1, 90))
def test_what_waits_is_finished_within_the_patience_whatever_is_expected(
    seconds: dict[int, float], load: float, waiting: int
) -> None:
    costs = costs_of(tuple(seconds.items()))
    deadlines = [NEVER] * waiting
    soonest = max(follow(costs, deadlines, 0.0))
    assert costs.finish_seconds(waiting) == pytest.approx(soonest)
    assert max(follow(costs, deadlines, load * capacity(costs))) <= PATIENCE * soonest * FLOAT_ERROR


@given(seconds=costs_of_sizes, load=loads, waiting=st.integers(1, 40), tightness=st.floats(1.0, 2.0))
def test_no_image_is_late_for_the_sake_of_those_expected(
    seconds: dict[int, float], load: float, waiting: int, tightness: float
) -> None:
    costs = costs_of(tuple(seconds.items()))
    deadline = tightness * FLOAT_ERROR * max(follow(costs, [NEVER] * waiting, 0.0))
    done = follow(costs, [deadline] * waiting, load * capacity(costs))
    if max(follow(costs, [deadline] * waiting, 0.0)) <= deadline:
        assert max(done) <= deadline * FLOAT_ERROR


@given(seconds=costs_of_sizes, load=loads)
def test_more_waiting_images_never_get_a_smaller_run_for_the_sake_of_those_expected(
    seconds: dict[int, float], load: float
) -> None:
    costs = costs_of(tuple(seconds.items()))
    sizes = [costs.next_size(waiting, load * capacity(costs)) for waiting in range(1, 4 * costs.largest)]
    for waiting, (fewer, more) in enumerate(pairwise(sizes), start=2):
        assert more >= fewer or more == costs.next_size(waiting)


def test_an_urgent_image_is_planned_for_as_if_nothing_were_expected() -> None:
    costs = BatchCosts(COSTS_310P)
    padded = costs.seconds[16]
    rate = 0.3 * MOST_310P
    assert plan([NEVER, NEVER, NEVER, 1.1 * padded], costs, 0.0, rate).size == 16
    assert plan([NEVER, NEVER, NEVER, 1.3 * padded], costs, 0.0, rate).size == 1


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_value_of_single_runs_is_that_of_the_textbook(load: float) -> None:
    """The M/D/1 queue: mean time in the system, by Pollaczek and Khinchine, 1 + load / 2 / (1 - load) services."""
    plan_of_singles = [0] + [1] * 200
    arrivals = {1: _poisson(load, 201)}
    _, growth = _value_of({1: 1.0}, plan_of_singles, load, arrivals)
    assert growth / load == pytest.approx(1 + load / 2 / (1 - load), rel=1e-6)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_the_value_of_plans_is_what_a_simulation_gives(load: float) -> None:
    costs = BatchCosts(COSTS_310P)
    soonest = [0, *(costs.next_size(waiting) for waiting in range(1, 65))]
    rate = load * MOST_310P
    arrivals = {size: _poisson(rate * cost, 65) for size, cost in COSTS_310P.items()}
    _, growth = _value_of(COSTS_310P, soonest, rate, arrivals)

    class Soonest:
        def take_in(self, images: int, now: float) -> None:
            pass

        def choose(self, waiting: Sequence[float], now: float) -> Plan:
            return plan([NEVER] * len(waiting), costs, now)

    simulated = simulate(poisson_arrivals(rate, 30_000, seed=1), COSTS_310P, Soonest())
    assert growth / rate == pytest.approx(simulated.mean, rel=0.03)


def test_a_second_step_of_policy_iteration_changes_nothing_on_a_310p() -> None:
    soonest = [0, *(BatchCosts(COSTS_310P).next_size(waiting) for waiting in range(1, 65))]
    for load in (0.1, 0.5, 0.9):
        once = look_ahead(COSTS_310P, soonest, load * MOST_310P)
        assert look_ahead(COSTS_310P, once, load * MOST_310P) == once


def test_finish_times_follow_the_plan() -> None:
    assert finish_times({1: 1.0, 4: 2.5}, [0, 1, 1, 4, 4, 4]) == [0.0, 1.0, 2.0, 2.5, 2.5, 3.5]


@pytest.mark.parametrize("mean", [1e-3, 1.0, 20.0, 2000.0])
def test_probabilities_of_arrivals_add_up_and_do_not_overflow(mean: float) -> None:
    probabilities = _poisson(mean, 4000)
    assert np.all(np.isfinite(probabilities))
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities @ np.arange(4000) == pytest.approx(mean)


def test_a_size_that_takes_unboundedly_long_is_planned_around() -> None:
    costs = BatchCosts({1: 1.0, 8: 2.0, 64: 5_000.0})
    assert [costs.next_size(waiting, 3.0) for waiting in (1, 2, 3, 8, 100, 1000)] == [1, 1, 8, 8, 8, 8]
