"""The messages between a load process and its parent; counts travel as a Tally."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_bench.arrivals import Arrivals
    from repserve_bench.dataset import Sample
    from repserve_bench.payloads import InputSettings
    from repserve_bench.predictions import Prediction
    from repserve_bench.transport.base import TransportName


@dataclass(frozen=True)
class Job:
    """What one process has to do."""

    address: str
    groups: tuple[tuple[Sample, ...], ...]
    """The samples of each request, replayed in this order and then from the start again."""
    input: InputSettings
    transport: TransportName
    concurrency: int
    """Requests in flight: as many as that in a closed loop, at most that in an open one."""
    channels: int
    requests: int
    """At least so many requests, and at least ``seconds`` seconds, are sent."""
    seconds: float
    timeout: float
    arrivals: Arrivals | None = None
    """An open loop's; None is a closed loop."""
    warm_up_seconds: float = 0.0
    retries: bool = True


@dataclass(frozen=True)
class Ready:
    """The process can start."""

    requests_kept: bool
    """False when the requests do not fit in memory and are made while the clock runs."""


@dataclass(frozen=True)
class Go:
    """Start now."""


@dataclass(frozen=True)
class Stop:
    """Send nothing more and finish."""


@dataclass(frozen=True)
class Finished:
    """The process is done; its last Tally came before."""

    started: float
    """``time.monotonic()`` of the first sending; the same clock in every process of a machine."""
    ended: float
    cpu_seconds: float
    predictions: dict[str, Prediction] = field(default_factory=dict)
    """The first answer for each image."""
