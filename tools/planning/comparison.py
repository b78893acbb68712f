"""Policies compared on the same arrivals, over loads and seeds."""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from planning.policies import BASELINES, POLICIES, SINGLE, make_policy
from planning.simulation import Figures, poisson_arrivals, simulate
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from planning.devices import Device

LOADS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90, 0.95)
"""Shares of what the device runs in full batches of 16."""
STABLE = 0.95
"""Above this share of what single runs serve, one by one is left out: its queue grows, or nearly."""
QUIET = 0.8
"""As long as no policy that is shown is busier than this, a point has the requested number of images. A busier one
has a queue whose memory is longer, in proportion to 1 / (1 - load)^2, and so are the simulations."""
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for a two-sided 95 % confidence interval, by degrees of freedom from 1."""
MOST_SEEDS = len(STUDENT) + 1


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its 95 % confidence interval."""

    mean: float
    margin: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Estimate:
        """Make it from one value per seed; the margin of a single seed is infinite."""
        if len(samples) == 1:
            return cls(samples[0], math.inf)
        error = float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
        return cls(float(np.mean(samples)), STUDENT[len(samples) - 2] * error)


@dataclass(frozen=True)
class Point:
    """One simulation: all policies on the same arrivals."""

    device: Device
    load: float
    seed: int
    images: int

    @property
    def load_of_singles(self) -> float:
        """The load for a device that runs one by one."""
        return self.load * self.device.largest_rate * self.device.two_sizes[1]

    @property
    def arrivals(self) -> int:
        """Images that arrive: ``images``, and more under high load."""
        busiest = max(self.load, self.load_of_singles if self.load_of_singles <= STABLE else 0.0)
        return round(self.images * max(1.0, ((1 - QUIET) / (1 - busiest)) ** 2))

    def run(self) -> dict[str, Figures]:
        """Return the figures of each policy that is stable here."""
        arrivals = poisson_arrivals(self.load * self.device.largest_rate, self.arrivals, self.seed)
        figures = {}
        for name in POLICIES:
            if name != SINGLE or self.load_of_singles <= STABLE:
                policy, seconds = make_policy(name, self.device)
                figures[name] = simulate(arrivals, seconds, policy)
        return figures


@dataclass(frozen=True)
class Comparison:
    """The figures of one device: by load and policy, one for each seed."""

    device: Device
    figures: Mapping[float, Mapping[str, Sequence[Figures]]]

    @property
    def loads(self) -> tuple[float, ...]:
        """The loads compared, rising."""
        return tuple(sorted(self.figures))

    def estimate(self, load: float, policy: str, figure: str) -> Estimate | None:
        """Return a field of Figures; None where the policy is not stable."""
        samples = self.figures[load].get(policy)
        return None if samples is None else Estimate.of([getattr(sample, figure) for sample in samples])

    def best_baseline(self, load: float, figure: str) -> str:
        """Return the baseline that has the least of a figure."""
        present = [name for name in BASELINES if name in self.figures[load]]
        value = attrgetter(figure)
        return min(present, key=lambda name: sum(value(sample) for sample in self.figures[load][name]))

    def excess(self, load: float, policy: str, figure: str, baseline: str | None = None) -> Estimate:
        """By what share a policy's figure is above a baseline's, 0.05 for 5 %; the best baseline's by default.

        The shares are taken seed by seed, on the same arrivals, so that chance weighs on both alike.
        """
        other = self.figures[load][baseline or self.best_baseline(load, figure)]
        value = attrgetter(figure)
        pairs = zip(self.figures[load][policy], other, strict=True)
        return Estimate.of([value(ours) / value(theirs) - 1 for ours, theirs in pairs])

    def widest_margin(self, policies: Sequence[str]) -> float:
        """Return the largest margin of a 99th percentile of these policies, as a share of it."""
        found = [self.estimate(load, name, "p99") for load in self.loads for name in policies]
        return max(estimate.margin / estimate.mean for estimate in found if estimate is not None)

    def worst_excess(self, policy: str, figure: str) -> tuple[Estimate, float]:
        """Return the largest excess over the best baseline, and the load where it is."""
        return max(((self.excess(load, policy, figure), load) for load in self.loads), key=lambda found: found[0].mean)

    def best_gain(self, policy: str, figure: str, baseline: str) -> tuple[Estimate, float]:
        """Return the least excess over a baseline (most below zero), and the load where it is."""
        loads = [load for load in self.loads if baseline in self.figures[load]]
        found = [(self.excess(load, policy, figure, baseline), load) for load in loads]
        return min(found, key=lambda pair: pair[0].mean)


def points(devices: Sequence[Device], loads: Sequence[float], seeds: int, images: int) -> list[Point]:
    """Return the points of a comparison of these devices, by rising load."""
    return [
        Point(device, load, seed, images)
        for load in sorted(loads)
        for device in devices
        for seed in range(1, seeds + 1)
    ]


def collect(results: Sequence[tuple[Point, Mapping[str, Figures]]]) -> list[Comparison]:
    """Group results by device, load and policy."""
    devices = {point.device.title: point.device for point, _ in results}
    found: dict[str, dict[float, dict[str, list[Figures]]]] = {title: {} for title in devices}
    for point, figures in sorted(results, key=lambda result: result[0].seed):
        policies = found[point.device.title].setdefault(point.load, {})
        for name, figure in figures.items():
            policies.setdefault(name, []).append(figure)
    return [Comparison(device, found[title]) for title, device in devices.items()]


def run_points(wanted: Sequence[Point], done: Callable[[], None]) -> list[tuple[Point, dict[str, Figures]]]:
    """Simulate on all cores and call ``done`` after each point."""
    results = []
    with ProcessPoolExecutor(available_cpus(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for point, figures in zip(wanted, pool.map(Point.run, wanted), strict=True):
            results.append((point, figures))
            done()
    return results
