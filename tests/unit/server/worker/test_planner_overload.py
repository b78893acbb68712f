"""A backlog as old as the deadlines: the planner works it off instead of running single images for ever."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.worker.arrival_rate import ArrivalRate
from repserve_server.worker.planner import BatchCosts, plan

CAPACITY = 8752.0
"""Images a second of a 310P in full batches."""


def costs_of(device: str, sizes: tuple[int, ...]) -> BatchCosts:
    return BatchCosts({size: PUBLISHED_DEVICES[device].batch_seconds(size) for size in sizes})


def late_share(costs: BatchCosts, arrivals: list[float], allowed: float, *, pad: bool) -> float:
    """The share of images that are not answered within ``allowed`` seconds.

    The worker's loop on simulated time: take in what has arrived, drop what is too late, plan, run.

    Args:
        costs: of the device.
        arrivals: when images arrive, ascending.
        allowed: seconds from an image's arrival to its deadline.
        pad: always run up to 16 of what waits, oldest first, instead of asking the planner.
    """
    waiting: deque[float] = deque()
    rate = ArrivalRate.for_costs(costs)
    now, following, in_time = 0.0, 0, 0
    while following < len(arrivals) or waiting:
        if not waiting:
            now = max(now, arrivals[following])
        while following < len(arrivals) and arrivals[following] <= now:
            waiting.append(arrivals[following] + allowed)
            rate.add(1, now)
            following += 1
        waiting = deque(deadline for deadline in waiting if deadline > now)
        if not waiting:
            continue
        if pad:
            size, take = 16, tuple(range(min(16, len(waiting))))
        else:
            chosen = plan(list(waiting), costs, now, rate.per_second(now))
            size, take = chosen.size, chosen.take
        now += costs.seconds[size]
        in_time += sum(waiting[i] >= now for i in take)
        waiting = deque(deadline for i, deadline in enumerate(waiting) if i not in take)
    return 1 - in_time / len(arrivals)


def arrivals_at(*phases: tuple[float, float]) -> list[float]:
    """Poisson arrivals: for each (seconds, share of the capacity)."""
    generator, found, begin = np.random.default_rng(7), [], 0.0
    for seconds, share in phases:
        count = generator.poisson(seconds * share * CAPACITY)
        found += sorted((begin + seconds * generator.random(count)).tolist())
        begin += seconds
    return found


@pytest.mark.parametrize("sizes", [(1, 16), (1, 2, 4, 8, 16)])
def test_a_short_overload_is_over_when_it_is_over(sizes: tuple[int, ...]) -> None:
    arrivals = arrivals_at((0.05, 2.0), (2.0, 0.8))
    late = late_share(costs_of("310p", sizes), arrivals, 0.05, pad=False)
    assert late <= late_share(costs_of("310p", sizes), arrivals, 0.05, pad=True) + 0.01


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_tight_deadlines_under_load_are_kept_about_as_well_as_by_padding(share: float) -> None:
    arrivals, costs = arrivals_at((2.0, share)), costs_of("310p", (1, 16))
    late = late_share(costs, arrivals, 0.0055, pad=False)
    assert late <= late_share(costs, arrivals, 0.0055, pad=True) + 0.02


def test_more_than_the_device_can_do_is_done_at_its_best_rate() -> None:
    arrivals, costs = arrivals_at((1.0, 1.5)), costs_of("310p", (1, 16))
    late = late_share(costs, arrivals, 0.05, pad=False)
    assert late <= late_share(costs, arrivals, 0.05, pad=True) + 0.02
