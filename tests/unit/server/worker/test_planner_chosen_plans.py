"""The plans on published costs, written out, and against the best of all plans by brute force."""

from __future__ import annotations

import math
from functools import cache

import pytest

from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.worker.planner import BatchCosts, plan

NEVER = math.inf
TWO_SIZES = (1, 16)
GEARS = (1, 2, 4, 8, 16)
MODEL_ZOO_310P = {1: 1 / 1938, 4: 4 / 4694.8, 8: 8 / 6739.7, 16: 16 / 8933.6}
"""Source: RepVGG-A0 on a 310P3 in Ascend's ModelZoo-PyTorch."""
COSTS = {
    f"{name} {label}": {size: PUBLISHED_DEVICES[name].batch_seconds(size) for size in sizes}
    for name in PUBLISHED_DEVICES
    for label, sizes in (("1,16", TWO_SIZES), ("gears", GEARS))
} | {"310p ModelZoo": MODEL_ZOO_310P}
SLACK = 1.01
"""Each run counts 1 % of the quickest on top, so that fewer runs win a near tie: a plan may lose as much by it."""


def planned(name: str, waiting: int) -> list[int]:
    """The sizes that are run, one after another, until nothing waits; nothing else arrives."""
    costs, sizes = BatchCosts(COSTS[name]), []
    while waiting:
        chosen = plan([NEVER] * waiting, costs, 0.0)
        sizes.append(chosen.size)
        waiting -= len(chosen.take)
    return sizes


@cache
def best_of_all(name: str, waiting: int) -> float:
    """Seconds of the quickest of all sequences of runs that serve so many images."""
    if waiting <= 0:
        return 0.0
    return min(cost + best_of_all(name, waiting - size) for size, cost in COSTS[name].items())


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("waiting", range(1, 41))
def test_up_to_forty_images_are_finished_as_soon_as_by_the_best_of_all_plans(name: str, waiting: int) -> None:
    seconds = sum(COSTS[name][size] for size in planned(name, waiting))
    assert best_of_all(name, waiting) * (1 - 1e-9) <= seconds <= best_of_all(name, waiting) * SLACK


PLANS = {
    "310p 1,16": {1: [1], 2: [1] * 2, 3: [1] * 3, 4: [16], 16: [16], 17: [16, 1], 19: [16, 1, 1, 1], 20: [16, 16]},
    "310 1,16": {1: [1], 2: [1] * 2, 3: [16], 4: [16], 16: [16], 17: [16, 1], 18: [16, 1, 1], 19: [16, 16]},
    "t4 1,16": {1: [1], 2: [1] * 2, 3: [1] * 3, 4: [16], 16: [16], 17: [16, 1], 19: [16, 1, 1, 1], 20: [16, 16]},
    "310p gears": {
        1: [1],
        2: [2],
        3: [4],
        4: [4],
        5: [8],
        8: [8],
        9: [8, 1],
        10: [8, 2],
        11: [16],
        16: [16],
        17: [16, 1],
    },
    "310 gears": {1: [1], 2: [2], 3: [4], 5: [8], 8: [8], 9: [16], 16: [16], 17: [16, 1], 18: [16, 2], 20: [16, 4]},
    "t4 gears": {1: [1], 2: [2], 3: [4], 5: [8], 8: [8], 9: [8, 1], 10: [8, 2], 11: [16], 17: [16, 1], 20: [16, 4]},
    "310p ModelZoo": {1: [1], 2: [4], 4: [4], 5: [8], 8: [8], 9: [8, 1], 10: [16], 17: [16, 1], 18: [16, 4]},
}


@pytest.mark.parametrize(("name", "waiting"), [(name, waiting) for name, plans in PLANS.items() for waiting in plans])
def test_the_plan_for_so_many_images_is(name: str, waiting: int) -> None:
    assert planned(name, waiting) == PLANS[name][waiting]


def test_every_published_device_has_its_plans_written_out() -> None:
    assert set(PLANS) == set(COSTS)
