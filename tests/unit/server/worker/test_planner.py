"""The planner against brute force: which batch runs next, for every count and for random costs and deadlines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.channel.messages import CloseReason
from repserve_server.worker.planner import BatchCosts, Plan, plan

NEVER = math.inf
COSTS_310P = {1: 1 / 1919, 16: 16 / 8752}
COSTS_310 = {1: 4 / 1112, 16: 64 / 7115}
COSTS_T4 = {1: 1 / 1128, 16: 16 / 4784}
GEARS = {1: 1.0, 2: 1.7, 4: 2.6, 8: 4.1, 16: 7.0}
SLACK = 1.02
FLOAT_ERROR = 1 + 1e-9


def shortest_of_all_sequences(seconds: Mapping[int, float], waiting: int) -> float:
    """The makespan of the best sequence of runs, by trying every one."""
    if waiting <= 0:
        return 0.0
    return min(cost + shortest_of_all_sequences(seconds, waiting - size) for size, cost in seconds.items())


def shortest(seconds: Mapping[int, float], waiting: int) -> float:
    """The same for larger counts: each subproblem is solved once."""

    @cache
    def solve(left: int) -> float:
        return min(cost + (solve(left - size) if left > size else 0.0) for size, cost in seconds.items())

    for count in range(1, waiting):
        solve(count)
    return solve(waiting)


def follow(seconds: Mapping[int, float], waiting: int) -> list[tuple[int, int]]:
    """Plan, run, plan again until nothing waits: (compiled size, images taken) of each run."""
    costs, runs = BatchCosts(seconds), []
    while waiting:
        chosen = plan([NEVER] * waiting, costs, 0.0)
        runs.append((chosen.size, len(chosen.take)))
        waiting -= len(chosen.take)
    return runs


costs_of_sizes = st.dictionaries(st.integers(1, 16), st.floats(0.01, 10.0), min_size=1, max_size=5).map(
    lambda drawn: dict(zip(sorted(drawn), sorted(drawn.values()), strict=True))
)
"""Larger batches take no less time."""
gears = st.tuples(st.sets(st.sampled_from([2, 4, 8, 16])), st.floats(0.05, 1.0), st.floats(0.001, 0.5)).map(
    lambda drawn: {size: drawn[1] + drawn[2] * size for size in {1, *drawn[0]}}
)
"""A fixed cost of a run and one for each image: what devices look like."""


@pytest.mark.parametrize(
    "seconds", [COSTS_310P, COSTS_310, COSTS_T4, GEARS, {1: 1.0}, {4: 1.0}, {1: 1.0, 3: 2.0, 7: 4.5}]
)
@pytest.mark.parametrize("waiting", range(1, 13))
def test_small_counts_are_done_as_soon_as_by_the_best_of_all_sequences(seconds: dict[int, float], waiting: int) -> None:
    if len(seconds) > 3 and waiting > 9:
        best = shortest(seconds, waiting)
    else:
        best = shortest_of_all_sequences(seconds, waiting)
    total = sum(seconds[size] for size, _ in follow(seconds, waiting))
    assert best / FLOAT_ERROR <= total <= best * SLACK * FLOAT_ERROR


@given(seconds=gears | costs_of_sizes, runs_ahead=st.floats(0.01, 4.0))
def test_everything_is_done_within_two_percent_of_the_soonest(seconds: dict[int, float], runs_ahead: float) -> None:
    waiting = max(1, int(runs_ahead * max(seconds)))
    total = sum(seconds[size] for size, _ in follow(seconds, waiting))
    assert total <= shortest(seconds, waiting) * SLACK


@pytest.mark.parametrize(
    ("waiting", "runs"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 1)]),
        (3, [(1, 1), (1, 1), (1, 1)]),
        (4, [(16, 4)]),
        (15, [(16, 15)]),
        (16, [(16, 16)]),
        (17, [(16, 16), (1, 1)]),
        (19, [(16, 16), (1, 1), (1, 1), (1, 1)]),
        (20, [(16, 16), (16, 4)]),
        (64, [(16, 16)] * 4),
        (65, [(16, 16)] * 4 + [(1, 1)]),
        (1000, [(16, 16)] * 62 + [(16, 8)]),
    ],
)
def test_runs_of_a_310p(waiting: int, runs: list[tuple[int, int]]) -> None:
    assert follow(COSTS_310P, waiting) == runs


@pytest.mark.parametrize(("device", "singles"), [("310p", 3), ("310", 2), ("t4", 3)])
def test_published_devices_pad_as_soon_as_one_padded_run_is_quicker(device: str, singles: int) -> None:
    published = PUBLISHED_DEVICES[device]
    seconds = {size: published.batch_seconds(size) for size in (1, 16)}
    assert seconds[1] * singles < seconds[16] < seconds[1] * (singles + 1)
    assert follow(seconds, singles) == [(1, 1)] * singles
    assert follow(seconds, singles + 1) == [(16, singles + 1)]


def test_a_device_of_any_size_pads_nothing() -> None:
    costs = BatchCosts(COSTS_310P, any_size=True)
    assert costs.sizes == tuple(range(1, 17))
    for waiting in range(1, 17):
        chosen = plan([NEVER] * waiting, costs, 0.0)
        assert (chosen.size, len(chosen.take)) == (waiting, waiting)


@given(seconds=costs_of_sizes)
def test_sizes_between_measured_ones_cost_what_lies_between(seconds: dict[int, float]) -> None:
    costs = BatchCosts(seconds, any_size=True)
    assert costs.sizes == tuple(range(min(seconds), max(seconds) + 1))
    for size, cost in costs.seconds.items():
        low = max(known for known in seconds if known <= size)
        high = min(known for known in seconds if known >= size)
        share = (size - low) / (high - low) if high > low else 0.0
        assert cost == pytest.approx(seconds[low] + share * (seconds[high] - seconds[low]))


def test_costs_of_the_largest_allowed_batch_are_planned_once_per_size() -> None:
    costs = BatchCosts({1: 1.0, 64: 20.0}, any_size=True)
    assert costs.next_size(64) == 64


def test_a_larger_batch_that_was_measured_quicker_counts_as_no_quicker() -> None:
    costs = BatchCosts({1: 1.0, 2: 3.0, 4: 2.0, 8: 5.0})
    assert costs.seconds == {1: 1.0, 2: 3.0, 4: 3.0, 8: 5.0}
    assert costs.measured[4] == 2.0


@pytest.mark.parametrize("seconds", [{}, {0: 1.0}, {-1: 1.0}, {1: 0.0}, {1: -1.0, 2: 3.0}])
def test_costs_that_cannot_be_are_refused(seconds: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="batch costs must be positive"):
        BatchCosts(seconds)


def test_nothing_to_plan_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image waits"):
        plan([], BatchCosts(COSTS_310P), 0.0)


def test_why_a_batch_was_closed() -> None:
    costs = BatchCosts(COSTS_310P)
    assert plan([NEVER] * 16, costs, 0.0).reason is CloseReason.FULL
    assert plan([NEVER] * 15, costs, 0.0).reason is CloseReason.CHEAPEST
    assert plan([NEVER] * 15 + [0.001], costs, 0.0).reason is CloseReason.DEADLINE


def test_a_deadline_that_a_padded_run_would_miss_closes_the_batch_early() -> None:
    costs = BatchCosts({1: 1.0, 16: 3.0})
    assert plan([NEVER, NEVER, 2.9, NEVER], costs, 0.0) == Plan(1, (2,), CloseReason.DEADLINE)
    assert plan([NEVER, NEVER, 3.0, NEVER], costs, 0.0) == Plan(16, (0, 1, 2, 3), CloseReason.CHEAPEST)


def test_the_most_urgent_of_several_goes_first() -> None:
    costs = BatchCosts({1: 1.0, 2: 1.5, 16: 3.0})
    assert plan([2.0, NEVER, 1.9, 1.6, NEVER], costs, 0.0) == Plan(2, (3, 2), CloseReason.DEADLINE)


def test_of_the_runs_in_time_the_one_with_most_images_a_second_is_taken() -> None:
    costs = BatchCosts({1: 1.0, 4: 2.0, 8: 2.4, 16: 4.0})
    chosen = plan([2.5] + [NEVER] * 15, costs, 0.0)
    assert (chosen.size, chosen.take[0], chosen.reason) == (8, 0, CloseReason.DEADLINE)


def test_a_deadline_that_no_run_meets_changes_nothing() -> None:
    costs = BatchCosts({1: 1.0, 16: 3.0})
    assert plan([0.9] + [NEVER] * 4, costs, 0.0) == Plan(16, (0, 1, 2, 3, 4), CloseReason.CHEAPEST)


def test_hopeless_images_do_not_take_the_places_of_urgent_ones() -> None:
    costs = BatchCosts({1: 1.0, 16: 3.0})
    assert plan([0.5, 0.1, 2.0, NEVER, NEVER], costs, 0.0).take == (2,)


@st.composite
def planned(draw: st.DrawFn) -> tuple[list[float], BatchCosts, float, Plan]:
    costs = BatchCosts(draw(costs_of_sizes), any_size=draw(st.booleans()))
    now = draw(st.floats(0.0, 1e6))
    deadline = st.one_of(st.just(NEVER), st.floats(-1.0, 30.0).map(lambda seconds: now + seconds))
    deadlines = draw(st.lists(deadline, min_size=1, max_size=40))
    return deadlines, costs, now, plan(deadlines, costs, now)


@given(planned())
def test_a_plan_takes_waiting_images_once_each_and_no_more_than_fit(
    case: tuple[list[float], BatchCosts, float, Plan],
) -> None:
    deadlines, costs, _, chosen = case
    assert chosen.size in costs.sizes
    assert len(set(chosen.take)) == len(chosen.take) == min(chosen.size, len(deadlines))
    assert all(0 <= position < len(deadlines) for position in chosen.take)


@given(planned())
def test_without_a_deadline_in_reach_images_go_in_order_of_arrival(
    case: tuple[list[float], BatchCosts, float, Plan],
) -> None:
    deadlines, costs, now, chosen = case
    if chosen.reason is not CloseReason.DEADLINE:
        assert chosen.size == costs.next_size(len(deadlines))
        assert list(chosen.take) == sorted(chosen.take)
        # Those that this run answers too late only fill places that are left.
        answered = [i for i, deadline in enumerate(deadlines) if deadline >= now + costs.seconds[chosen.size]]
        assert set(answered[: len(chosen.take)]) <= set(chosen.take)
    calm = plan([NEVER] * len(deadlines), costs, now)
    assert calm.take == tuple(range(len(calm.take)))


@given(planned())
def test_a_quicker_run_is_chosen_only_when_the_cheapest_is_late_and_for_the_most_urgent(
    case: tuple[list[float], BatchCosts, float, Plan],
) -> None:
    deadlines, costs, now, chosen = case
    cheapest = costs.next_size(len(deadlines))
    end = now + costs.seconds[cheapest]
    rescuable = [deadline for deadline in deadlines if any(now + cost <= deadline for cost in costs.seconds.values())]
    if chosen.size != cheapest:
        assert chosen.reason is CloseReason.DEADLINE
        assert min(rescuable) < end
        assert now + costs.seconds[chosen.size] <= min(rescuable)
        assert min(rescuable) in [deadlines[i] for i in chosen.take]


@given(planned(), st.integers(0, 80))
def test_a_quicker_run_that_makes_nobody_late_is_taken_whenever_the_cheapest_is_late(
    case: tuple[list[float], BatchCosts, float, Plan], more: int
) -> None:
    _, costs, now, _ = case
    urgent = now + costs.fastest
    # By the clock: added to it, costs that differ by their last digit may be the same.
    if now + costs.seconds[costs.next_size(more + 1)] > urgent:
        chosen = plan([NEVER] * more + [urgent], costs, now)
        assert chosen.reason is CloseReason.DEADLINE
        assert more in chosen.take
        assert now + costs.seconds[chosen.size] <= urgent


def test_one_image_is_not_saved_at_the_price_of_several() -> None:
    costs = BatchCosts({1: 1.0, 16: 3.0})
    others = [3.5] * 15
    assert plan([1.5, *others], costs, 0.0).size == 16, "15 would be late after a run of 1 s"
    assert plan([1.5, *others], costs, 0.0).take == tuple(range(16))
    assert plan([1.5, *[9.0] * 15], costs, 0.0).size == 1


def test_the_image_that_closed_a_batch_early_is_in_the_quick_run() -> None:
    costs = BatchCosts({1: 1.0, 2: 1.5, 4: 2.2})
    chosen = plan([2.0, NEVER, NEVER, NEVER, 1.2, 1.2, NEVER, NEVER], costs, 0.0)
    end = costs.seconds[chosen.size]
    assert chosen.reason is CloseReason.DEADLINE
    assert 0 in chosen.take or end <= 1.2, "neither the urgent image nor the more urgent ones are answered in time"


def test_an_urgent_image_behind_a_full_batch_is_not_left_to_expire() -> None:
    costs = BatchCosts({1: 1.0, 16: 3.0})
    assert 16 in plan([NEVER] * 16 + [3.5], costs, 0.0).take


def test_a_cpu_that_takes_much_the_same_for_each_image_runs_what_waits_together() -> None:
    """Measured on RepVGG-A0: by a few percent, eight images twice would seem better than sixteen at once."""
    costs = BatchCosts({1: 3.32e-3, 2: 5.94e-3, 4: 10.90e-3, 8: 21.15e-3, 16: 43.57e-3}, any_size=True)
    assert [plan([NEVER] * waiting, costs, 0.0).size for waiting in (1, 3, 8, 11, 16)] == [1, 3, 8, 11, 16]


def test_a_cpu_that_is_clearly_quicker_with_eight_runs_eight() -> None:
    """Measured on MobileOne-S0 in bf16: 1,358 images a second in batches of eight, 1,205 in batches of sixteen."""
    costs = BatchCosts({1: 1.23e-3, 2: 1.91e-3, 4: 3.2e-3, 8: 8 / 1358, 16: 16 / 1205}, any_size=True)
    assert plan([NEVER] * 16, costs, 0.0).size == 8


def test_an_image_with_little_time_left_is_not_pushed_out_by_one_behind_it() -> None:
    costs = BatchCosts({1: 1 / 1919, 16: 16 / 8752})
    end = costs.seconds[16]
    chosen = plan([10.0] * 15 + [end + 0.0001, end + 0.0002], costs, 0.0)
    assert {15, 16} <= set(chosen.take)
