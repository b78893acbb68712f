"""Look-ahead: which size to run first when more images are expected before the waiting ones are done.

A long run makes everything that arrives during it wait; a short one is soon over, but wastes the device when many
wait. What a choice costs in the end follows from the costs of the sizes and the rate of arrivals: images arrive at
random (Poisson), the number that wait is the state, the next size the decision. That is a semi-Markov decision process
(Deb and Serfozo, "Optimal control of batch service queues", 1973), and one step of policy iteration (Howard, "Dynamic
Programming and Markov Processes", 1960) from the plans that finish soonest comes as near the best as more steps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PATIENCE = 1.2
"""Waiting images are finished within this many times the soonest possible, whatever may arrive. More patience
lowers the mean wait a little more and makes the longest waits longer: with 1.2 the 99th percentile stays within 5 % of
that of padding every batch and of single runs (docs/planner.md)."""
_INDIFFERENCE = 1e-9
"""A size must be better by this share of the quickest run to take the place of the one that finishes soonest."""


def look_ahead(seconds: Mapping[int, float], soonest: Sequence[int], rate: float) -> list[int]:
    """Choose for each number of waiting images the size to run first, so that images wait least on average.

    Args:
        seconds: cost of a run of each size, rising with the size.
        soonest: by number of waiting images, the size to run first so that these are finished soonest; the entry for
            none is not used.
        rate: images that arrive in a second, more than none and less than the device can run.

    Returns:
        The sizes, in the form of ``soonest``. Following them with nothing arriving takes at most ``PATIENCE`` times as
        long as following ``soonest``; and a smaller size than that of fewer images is never taken for the sake of those
        to come.
    """
    arrivals = {size: _poisson(rate * cost, len(soonest)) for size, cost in seconds.items()}
    values, growth = _value_of(seconds, soonest, rate, arrivals)
    counts = np.arange(len(soonest))
    # What it costs, in image-seconds, to start with this size and to go on as the plans that finish soonest do.
    to_go = {
        size: _run_cost(counts, cost, rate)
        - growth * cost
        + _expected(values, arrivals[size])[np.maximum(0, counts - size)]
        for size, cost in seconds.items()
    }
    margin = _INDIFFERENCE * min(seconds.values()) * len(soonest)
    limits, finished, chosen = finish_times(seconds, soonest), [0.0], [0]
    for count in range(1, len(soonest)):
        best = soonest[count]
        for size, cost in seconds.items():
            patient = cost + finished[max(0, count - size)] <= PATIENCE * limits[count]
            if patient and size >= chosen[-1] and to_go[size][count] < to_go[best][count] - margin:
                best = size
        chosen.append(best)
        finished.append(seconds[best] + finished[max(0, count - best)])
    return chosen


def finish_times(seconds: Mapping[int, float], first: Sequence[int]) -> list[float]:
    """Compute the seconds to finish waiting images, by their number, if the runs follow ``first``."""
    finished = [0.0]
    for count in range(1, len(first)):
        finished.append(seconds[first[count]] + finished[max(0, count - first[count])])
    return finished


def _value_of(
    seconds: Mapping[int, float], plan: Sequence[int], rate: float, arrivals: Mapping[int, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], float]:
    """Compute what a plan costs: for each number of waiting images the excess over none, and the cost of each second.

    Both in image-seconds: an image costs a second for each second that it waits or runs. The equations are those of a
    semi-Markov process with average costs. More images than the table has count as its last.
    """
    last = len(plan) - 1
    durations = np.array([0.0, *(seconds[size] for size in plan[1:])])
    # One row for each number of waiting images, one for "none waiting is worth nothing"; the last column is the growth.
    equations = np.zeros((last + 2, last + 2))
    for count in range(1, last + 1):
        left = max(0, count - plan[count])
        probabilities = arrivals[plan[count]][: last - left]
        equations[count, left:last] = -probabilities
        equations[count, last] = -(1.0 - probabilities.sum())
    equations[range(1, last + 1), range(1, last + 1)] += 1.0
    equations[: last + 1, last + 1] = durations
    # None waiting: nothing is run until the next image arrives, 1 / rate seconds later on average.
    equations[0, :2], equations[0, last + 1] = (1.0, -1.0), 1.0 / rate
    equations[last + 1, 0] = 1.0
    costs = np.append(_run_cost(np.arange(last + 1), durations, rate), 0.0)
    solution = np.linalg.solve(equations, costs)
    return solution[:-1], float(solution[-1])


def _run_cost(waiting: NDArray[np.int64], duration: NDArray[np.float64] | float, rate: float) -> NDArray[np.float64]:
    """Compute the image-seconds of a run: waiting images stay for all of it, arriving ones for half on average."""
    return np.asarray(waiting * duration + rate * np.square(duration) / 2)


def _expected(values: NDArray[np.float64], arrivals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute, by the number of images that a run leaves, the mean value of the number that wait after it."""
    last = float(values[-1])
    beyond = np.full(len(arrivals) - 1, last)
    expected: NDArray[np.float64] = np.correlate(np.concatenate([values, beyond]), arrivals, "valid")
    return expected + (1.0 - float(arrivals.sum())) * last


def _poisson(mean: float, terms: int) -> NDArray[np.float64]:
    """Compute the probabilities of 0, 1, 2 ... arrivals of ``mean`` expected; by logarithms: exp(-mean) may be 0."""
    logarithms = np.cumsum(np.log(mean / np.arange(1, terms)))
    return np.exp(np.concatenate([[0.0], logarithms]) - mean)
