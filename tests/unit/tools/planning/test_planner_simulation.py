"""The simulated worker: against queues that have a formula, cases worked by hand, and the worker's real loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from planning.devices import DEVICES, GUIDE_310P
from planning.policies import (
    PAD,
    PLANNER,
    PLANNER_GEARS,
    POLICIES,
    SINGLE,
    FixedDelay,
    FixedSize,
    make_policy,
)
from planning.simulation import Figures, poisson_arrivals, simulate
from support.worker_harness import LoopFrontend, LoopHarness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from planning.devices import Device
    from planning.policies import Policy
    from repserve_server.worker.planner import Plan

SECONDS = {1: 1.0, 16: 4.0}


class Recorder:
    """A policy that notes when each run of another one started, its size and its images."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.runs: list[tuple[float, int, int]] = []

    def take_in(self, images: int, now: float) -> None:
        self.policy.take_in(images, now)

    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        chosen = self.policy.choose(waiting, now)
        if not isinstance(chosen, float):
            self.runs.append((now, chosen.size, len(chosen.take)))
        return chosen


def runs_of(policy: Policy, arrivals: Sequence[float]) -> list[tuple[float, int, int]]:
    recorder = Recorder(policy)
    simulate(np.array(arrivals), SECONDS, recorder)
    return recorder.runs


def test_arrivals_are_random_at_the_rate_and_the_same_for_a_seed() -> None:
    arrivals = poisson_arrivals(500.0, 40_000, seed=3)
    gaps = np.diff(arrivals)
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.02)
    assert (gaps > 0).all()
    np.testing.assert_array_equal(poisson_arrivals(1000.0, 40_000, seed=3), arrivals / 2)
    assert not np.array_equal(poisson_arrivals(500.0, 40_000, seed=4), arrivals)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_single_runs_are_the_textbooks_queue(load: float) -> None:
    """M/D/1, Pollaczek and Khinchine: 1 + load / 2 / (1 - load) services on average."""
    figures = simulate(poisson_arrivals(load, 60_000, seed=1), SECONDS, FixedSize(1))
    assert figures.mean == pytest.approx(1 + load / 2 / (1 - load), rel=0.02)
    assert figures.utilisation == pytest.approx(load, rel=0.02)
    assert (figures.mean_batch, figures.padding) == (1.0, 0.0)


def test_padding_takes_what_waits_when_the_device_is_free() -> None:
    assert runs_of(FixedSize(16), [1.0, 2.0, 3.0, *[4.5] * 20, 30.0]) == [
        (1.0, 16, 1),
        (5.0, 16, 16),
        (9.0, 16, 6),
        (30.0, 16, 1),
    ]


def test_a_delay_is_over_when_the_batch_is_full_or_its_oldest_image_has_waited_so_long() -> None:
    arrivals = [1.0, 1.5, 2.5, *[10.0] * 10, *[10.5] * 6, 12.0, 30.0]
    assert runs_of(FixedDelay(16, 2.0), arrivals) == [
        (3.0, 16, 3),
        (10.5, 16, 16),
        (14.5, 16, 1),
        (32.0, 16, 1),
    ]


def test_a_delay_that_passed_while_the_device_was_busy_is_not_waited_for_again() -> None:
    assert runs_of(FixedDelay(16, 2.0), [0.0, 3.0, 5.5]) == [(2.0, 16, 1), (6.0, 16, 2)]
    assert runs_of(FixedDelay(16, 2.0), [0.0, 5.0, 5.5]) == [(2.0, 16, 1), (7.0, 16, 2)]


def test_figures_count_latency_busy_time_and_padding() -> None:
    arrivals = np.array([0.0, 10.0, 10.0, 20.0])
    figures = simulate(arrivals, SECONDS, FixedSize(16))
    assert figures == Figures(mean=4.0, p50=4.0, p99=4.0, utilisation=12 / 24, mean_batch=4 / 3, padding=1 - 4 / 48)


def test_the_warm_up_is_left_out() -> None:
    arrivals = np.array([0.0] * 10 + [100.0 + 10 * step for step in range(90)])
    figures = simulate(arrivals, SECONDS, FixedSize(1))
    assert (figures.mean, figures.p99) == (1.0, 1.0)
    assert figures.utilisation == pytest.approx(90 / (991 - 10))


@pytest.mark.parametrize("name", [PLANNER, PLANNER_GEARS])
@pytest.mark.parametrize("load", [0.1, 0.3, 0.7])
def test_the_workers_loop_runs_the_same_batches(name: str, load: float) -> None:
    arrivals = poisson_arrivals(load * GUIDE_310P.largest_rate, 600, seed=2)
    policy, seconds = make_policy(name, GUIDE_310P)
    recorder = Recorder(policy)
    simulate(arrivals, seconds, recorder)
    assert batches_of_the_loop(arrivals, dict(seconds)) == [(size, images) for _, size, images in recorder.runs]


def batches_of_the_loop(arrivals: NDArray[np.float64], seconds: dict[int, float]) -> list[tuple[int, int]]:
    """Compiled size and images of each batch of a real worker loop, whose backend takes the time of a fake clock."""
    harness = LoopHarness(seconds)
    frontend = LoopFrontend(harness, slots=len(arrivals))
    start = harness.clock.now
    due = [start + time for time in arrivals.tolist()]
    submitted = 0

    def submit_what_has_arrived() -> None:
        nonlocal submitted
        first = submitted
        while submitted < len(due) and due[submitted] <= harness.clock.now:
            submitted += 1
        if submitted > first:
            frontend.submit(range(first, submitted))

    def run(batch: NDArray[np.generic]) -> None:
        harness.clock.now += seconds[len(batch)]

    harness.backend.on_run = run
    batches = []
    answered = 0
    while answered < len(due):
        if answered == submitted:
            harness.clock.now = max(harness.clock.now, due[submitted])
        submit_what_has_arrived()
        harness.turn()
        for answer in frontend.answers():
            batches.append((answer.compiled, answer.size))
            answered += len(answer.slots)
    harness.close()
    return batches


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.title)
def test_every_policy_serves_every_device(device: Device) -> None:
    arrivals = poisson_arrivals(0.1 * device.largest_rate, 500, seed=1)
    for name in POLICIES:
        policy, seconds = make_policy(name, device)
        figures = simulate(arrivals, seconds, policy)
        assert min(seconds.values()) * (1 - 1e-9) <= figures.p50 <= figures.p99
        assert 0 < figures.utilisation <= 1 + 1e-9
        assert 1 <= figures.mean_batch <= 16


def test_policies_have_the_costs_of_their_sizes() -> None:
    two_sizes = pytest.approx({1: 1 / 1919, 16: 16 / 8752})
    assert make_policy(PLANNER, GUIDE_310P)[1] == two_sizes
    gears = make_policy(PLANNER_GEARS, GUIDE_310P)[1]
    assert list(gears) == [1, 2, 4, 8, 16]
    assert gears[8] == pytest.approx(1 / 1919 + 7 / 15 * (16 / 8752 - 1 / 1919))
    for name in (PAD, SINGLE):
        assert make_policy(name, GUIDE_310P)[1] == two_sizes
