"""The settings of a load, and the messages between a load process and its parent; counts are sent as a Tally."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from repserve_bench.payloads import InputSettings

if TYPE_CHECKING:
    from repserve_bench.arrivals import Arrivals
    from repserve_bench.dataset import Sample
    from repserve_bench.predictions import Prediction
    from repserve_bench.transport.base import TransportName


CHANNELS = 4


@dataclass(frozen=True)
class LoadSettings:
    """How the images are sent.

    The stream is the default because it costs client and server less than a call for each request; docs/performance.md
    has the figures.
    """

    address: str
    concurrency: int = 32
    """Requests in flight, over all processes: their number in a closed loop, a limit in an open one."""
    arrivals: Arrivals | None = None
    """An open loop's arrivals over all processes; None is a closed loop."""
    requests: int = 0
    """Minimum number of requests; ``seconds`` must have passed too. 0 and 0 is one pass over the images."""
    seconds: float = 0.0
    transport: TransportName = "stream"
    warm_up_seconds: float = 0.0
    """Seconds for which the same load is sent before counting starts."""
    retries: bool = True
    """Whether to retry refusals with a retry delay, and requests on broken connections."""
    until_stable: bool = False
    """Whether to stop as soon as the last windows agree."""
    window_seconds: float = 1.0
    """Length of the windows that show whether the figures are stable."""
    processes: int | None = None
    """Load processes; None is as many as the load needs."""
    channels: int = CHANNELS
    """Connections of each process."""
    timeout: float = 30.0
    """Seconds that a request may take, retries included."""
    input: InputSettings = field(default_factory=InputSettings)


@dataclass(frozen=True)
class Job(LoadSettings):
    """The share of a load that one process sends."""

    groups: tuple[tuple[Sample, ...], ...] = ()
    """The samples of each request, replayed in this order and then from the start again."""


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
