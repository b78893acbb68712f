"""Ways to choose the next batch: the server's planner, and the policies it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from planning.devices import LARGEST
from repserve_server.channel.messages import CloseReason
from repserve_server.worker.arrival_rate import ArrivalRate
from repserve_server.worker.planner import BatchCosts, Plan, plan

if TYPE_CHECKING:
    from planning.devices import Device

DELAY = 2e-3
"""Seconds that the fixed delay waits for a batch to fill."""


class Policy(Protocol):
    """Chooses batches; each simulation has its own, since a policy may have a state."""

    def take_in(self, images: int, now: float) -> None:
        """Record that ``images`` have arrived up to ``now``, in seconds."""

    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        """Choose the next run.

        Args:
            waiting: when each waiting image arrived, in seconds, in that order; at least one.
            now: the present, in seconds.

        Returns:
            The next run, or the time until which the device stays idle unless another image arrives.
        """


class Planner(Policy):
    """The server's planner, called as the worker's loop calls it; no image has a deadline."""

    def __init__(self, costs: BatchCosts) -> None:
        self._costs = costs
        self._arrivals = ArrivalRate.for_costs(costs)

    @override
    def take_in(self, images: int, now: float) -> None:
        self._arrivals.add(images, now)

    @override
    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        return plan([inf] * len(waiting), self._costs, now, self._arrivals.per_second(now))


class FinishSoonest(Policy):
    """The server's planner without a rate of arrivals: its choice when nothing is expected."""

    def __init__(self, costs: BatchCosts) -> None:
        self._costs = costs

    @override
    def take_in(self, images: int, now: float) -> None:
        """Has no state."""

    @override
    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        return plan([inf] * len(waiting), self._costs, now)


class FixedSize(Policy):
    """Runs up to ``size`` waiting images as soon as the device is free, padded to ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size

    @override
    def take_in(self, images: int, now: float) -> None:
        """Has no state."""

    @override
    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        taken = min(self._size, len(waiting))
        return Plan(self._size, tuple(range(taken)), CloseReason.FULL if taken == self._size else CloseReason.CHEAPEST)


class FixedDelay(FixedSize):
    """Waits until a batch is full or its oldest image has waited for ``delay`` seconds, then pads it.

    As Triton's dynamic batcher does with ``max_queue_delay_microseconds``. Images that wait while the device is busy
    use that time up, so that under load the device is never kept idle.
    """

    def __init__(self, size: int, delay: float) -> None:
        super().__init__(size)
        self._delay = delay

    @override
    def choose(self, waiting: Sequence[float], now: float) -> Plan | float:
        close = waiting[0] + self._delay
        return super().choose(waiting, now) if len(waiting) >= self._size or now >= close else close


PLANNER = "planner 1, 16"
PLANNER_GEARS = "planner gears"
SOONEST = "soonest 1, 16"
PAD = "pad to 16"
WAIT = "2 ms delay"
SINGLE = "one by one"
BASELINES = (PAD, WAIT, SINGLE)
POLICIES = (PLANNER, PLANNER_GEARS, SOONEST, *BASELINES)


def make_policy(name: str, device: Device) -> tuple[Policy, Mapping[int, float]]:
    """Make a policy of POLICIES for a device.

    Returns:
        The policy, and the costs of the sizes that it may choose from.
    """
    makers: dict[str, Callable[[], Policy]] = {
        PLANNER: lambda: Planner(_costs(tuple(device.two_sizes.items()))),
        PLANNER_GEARS: lambda: Planner(_costs(tuple(device.gears.items()))),
        SOONEST: lambda: FinishSoonest(_costs(tuple(device.two_sizes.items()))),
        PAD: lambda: FixedSize(LARGEST),
        WAIT: lambda: FixedDelay(LARGEST, DELAY),
        SINGLE: lambda: FixedSize(1),
    }
    return makers[name](), device.gears if name == PLANNER_GEARS else device.two_sizes


@cache
def _costs(seconds: tuple[tuple[int, float], ...]) -> BatchCosts:
    return BatchCosts(dict(seconds))
