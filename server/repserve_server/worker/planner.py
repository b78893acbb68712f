"""The planner: which batch to run next, given the waiting images and the cost of each batch size on this device.

An .om is compiled for fixed batch sizes, so a batch of three either pads to a larger size or runs three times. On a
310P (0.52 ms for one, 1.83 ms for sixteen) three images are done soonest as three single runs and four as one padded
run of sixteen. Where more images are expected meanwhile, the planner also counts what a run costs those. It is a pure
function of the waiting images, the costs, the time and the rate of arrivals: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from repserve_server.channel.messages import CloseReason
from repserve_server.worker.lookahead import PATIENCE, finish_times, look_ahead

_RUN_WEIGHT = 0.01
"""Each run counts as this share of the quickest run on top: of plans as good as equal, the one with fewer runs wins."""
_NOISY_RUN_WEIGHT = 0.06
"""The same for a device that runs any size, a CPU, as a share of the largest batch: its costs rise almost evenly with
the size and were measured beside other work, so that small differences between them mean nothing."""
_LOAD_STEPS = 16
"""Rates of arrival are distinguished to this share of the device's own: on a device that is quickest with sixteen,
by the images that are expected during a run of sixteen."""


@dataclass(frozen=True)
class Plan:
    """The next run: ``take`` holds positions of waiting images, ``size`` is the compiled batch size to pad to."""

    size: int
    take: tuple[int, ...]
    reason: CloseReason


class BatchCosts:
    """Seconds of one run of each compiled batch size, and the cheapest way to run any number of images.

    ``any_size`` means that the device runs every size up to the largest as it is (no padding); sizes that were not
    measured then cost what lies on the straight line between their measured neighbours. Such a device also never looks
    ahead: all waiting images run together at hardly any loss.
    """

    def __init__(self, seconds: Mapping[int, float], *, any_size: bool = False) -> None:
        if not seconds or min(seconds) < 1 or min(seconds.values()) <= 0:
            raise ValueError(f"batch costs must be positive times of sizes from 1, got {dict(seconds)}")
        self.measured = dict(sorted(seconds.items()))
        sizes = tuple(self.measured)
        # A larger batch never takes less time; where it seems to, the measurement was disturbed.
        rising = dict(zip(sizes, accumulate(self.measured.values(), max), strict=True))
        self.seconds = _interpolate(rising) if any_size else rising
        self.sizes = tuple(self.seconds)
        self.largest = self.sizes[-1]
        self.best_rate = min(self.sizes, key=lambda size: (self.seconds[size] / size, -size))
        self.fastest = min(self.seconds.values())
        weight = _NOISY_RUN_WEIGHT * self.seconds[self.largest] if any_size else _RUN_WEIGHT * self.fastest
        soonest = self._plan_ahead(4 * self.largest, weight)
        self._finished = finish_times(self.seconds, soonest)
        self._most_per_second = self.best_rate / self.seconds[self.best_rate]
        steps = () if any_size or len(self.sizes) == 1 else range(1, _LOAD_STEPS)
        rates = [self._most_per_second * step / _LOAD_STEPS for step in steps]
        self._next = [soonest, *(look_ahead(self.seconds, soonest, rate) for rate in rates)]

    def next_size(self, waiting: int, arrival_rate: float = 0.0) -> int:
        """Choose the size to run first for at least one ``waiting`` image, when ``arrival_rate`` more arrive a second.

        With nothing expected to arrive, that is the size with which all waiting images are done soonest; of the runs
        that do it, the one that serves most images per second goes first, which makes the mean wait shortest. With
        arrivals, it is the size with which images wait least on average, as long as the waiting ones are done within
        ``PATIENCE`` times the soonest. Far more images than fit into a run are worked off at the best rate.
        """
        step = min(round(_LOAD_STEPS * arrival_rate / self._most_per_second), len(self._next) - 1)
        return self._next[step][waiting] if waiting < len(self._finished) else self.best_rate

    def finish_seconds(self, waiting: int) -> float:
        """Return the seconds that ``waiting`` images take if nothing else arrives."""
        full_runs = max(0, -(-(waiting + 1 - len(self._finished)) // self.best_rate))
        return full_runs * self.seconds[self.best_rate] + self._finished[waiting - full_runs * self.best_rate]

    def _plan_ahead(self, limit: int, weight: float) -> list[int]:
        """Find the size to run first for each count up to ``limit``, by dynamic programming over the counts."""
        soonest = [0.0]
        runs: list[tuple[int, ...]] = [()]
        first = [self.best_rate]
        for count in range(1, limit + 1):
            cost, size = min((self.seconds[size] + weight + soonest[max(0, count - size)], size) for size in self.sizes)
            soonest.append(cost)
            runs.append((size, *runs[max(0, count - size)]))
            first.append(min(runs[count], key=lambda run: self.seconds[run] / min(run, count)))
        return first


def _interpolate(measured: Mapping[int, float]) -> dict[int, float]:
    """Fill in every size from the smallest measured to the largest, on straight lines between measured neighbours."""
    sizes = list(measured)
    filled = {sizes[0]: measured[sizes[0]]}
    for low, high in pairwise(sizes):
        step = (measured[high] - measured[low]) / (high - low)
        for size in range(low + 1, high + 1):
            filled[size] = measured[low] + step * (size - low)
    return filled


def plan(deadlines: Sequence[float], costs: BatchCosts, now: float, arrival_rate: float = 0.0) -> Plan:
    """Choose the next run for images that wait, given their deadlines in the order of their arrival.

    The aim is to finish all waiting images soonest or, where more images are expected to arrive meanwhile, that
    images wait least (``BatchCosts.next_size``), as long as no deadline is near. Where that run would answer an image
    too late and a quicker one would not, the quicker one is run, with the most urgent images in it, if that makes fewer
    others late than it saves; an image further behind that would be too late after this run rides in it. Images that
    this run answers too late do not count, and only fill it.

    Args:
        deadlines: for each waiting image, the time on the clock of ``now`` when its answer must be there.
        costs: what the device takes for each batch size.
        now: the present, in seconds.
        arrival_rate: images expected to arrive in a second; none, if nothing is known.

    Raises:
        ValueError: no image waits.
    """
    waiting = len(deadlines)
    if waiting == 0:
        raise ValueError("no image waits: there is nothing to plan")
    in_time = [i for i in range(waiting) if deadlines[i] >= now + costs.fastest]
    by_urgency = sorted(in_time, key=lambda i: deadlines[i])
    if by_urgency and deadlines[by_urgency[0]] < now + PATIENCE * costs.finish_seconds(waiting):
        arrival_rate = 0.0  # Every moment counts for this one.
    size = costs.next_size(waiting, arrival_rate)
    take = min(size, waiting)
    end = now + costs.seconds[size]
    if by_urgency and deadlines[by_urgency[0]] < end:
        quick_enough = [s for s in costs.sizes if now + costs.seconds[s] <= deadlines[by_urgency[0]]]
        quick = max(quick_enough, key=lambda s: (min(s, waiting) / costs.seconds[s], s))
        urgent = [deadlines[i] for i in by_urgency]
        left = waiting - min(quick, waiting)
        delayed = now + costs.seconds[quick] + costs.seconds[costs.next_size(left)] if left else end
        if _saves_more_than_it_costs(urgent[:quick], urgent[quick:][:size], end, delayed):
            late = [i for i in range(waiting) if deadlines[i] < now + costs.fastest]
            return Plan(quick, tuple([*by_urgency, *late][:quick]), CloseReason.DEADLINE)
    reason = CloseReason.FULL if take == costs.largest else CloseReason.CHEAPEST
    # Those that this run answers too late only fill places that are left.
    answered = [i for i in range(waiting) if deadlines[i] >= end]
    # Behind this run, and too late after it: these go first.
    pressing = sorted((i for i in answered[take:] if deadlines[i] < end + costs.fastest), key=lambda i: deadlines[i])
    if pressing:
        reason = CloseReason.DEADLINE
    first = pressing[:take]
    kept = sorted(sorted(answered[:take], key=lambda i: deadlines[i])[: take - len(first)])
    filling = [i for i in range(waiting) if deadlines[i] < end][: take - len(first) - len(kept)]
    return Plan(size, (*first, *sorted([*kept, *filling])), reason)


def _saves_more_than_it_costs(quick: Sequence[float], others: Sequence[float], end: float, delayed: float) -> bool:
    """Return whether a quicker run first answers more images in time than it makes late.

    Without this, a backlog about as old as the deadlines would be worked off in quick runs for ever: each saves the
    oldest image, and the device never gets to the full batches that would end the backlog.

    Args:
        quick: the deadlines of the images in the quicker run.
        others: those of the images that come after it.
        end: when all of them would have their answers without the quicker run.
        delayed: when the others will, after it.
    """
    return sum(deadline < end for deadline in quick) > sum(end <= deadline < delayed for deadline in others)
