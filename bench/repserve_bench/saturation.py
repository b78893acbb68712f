"""``repserve bench saturate``: the highest rate at which a server's p99 stays under a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from repserve_bench.arrivals import Arrivals
from repserve_bench.column import RATE, Column, rich_table
from repserve_bench.figures import columns, point_json, report_head
from repserve_bench.measurement import measure
from repserve_bench.report_file import SATURATE
from repserve_bench.series import Series
from repserve_bench.served_model import is_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console
    from rich.table import Table

    from repserve_bench.load import LoadResult
    from repserve_bench.load_messages import LoadSettings
    from repserve_bench.load_options import Prepared
    from repserve_client.results import ModelInfo

BACKLOG_SHARE = 0.05
"""Share of a step's length: if the last answer comes later than that after the last request, beyond the bound of the
p99, the queue was growing."""
LEAST_REQUESTS = 200
"""Minimum requests in a step, which is extended if necessary: with fewer, the p99 is hardly more than the maximum."""
MOST_STRETCH = 4
"""Largest factor by which a step is extended for that."""
GROWTH = 2.0
"""Factor by which the rate grows, or shrinks, until one passes and one does not."""
LOWEST = 16
"""The first rate divided by the lowest that is tried."""


SATURATION_COLUMNS = (
    Column("rate", "rate/s", format=RATE),
    Column("sent_per_second", "sent/s", format=RATE),
    *columns("answered_per_second", "latency_seconds/p50", "latency_seconds/p99", "failed_requests"),
    Column("verdict", "passed"),
)


@dataclass
class Saturation(Series):
    """The outcome of a search."""

    p99_bound: float
    settings: LoadSettings
    """Those that all steps have in common."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Figures of each rate that was tried, with why it did not pass under ``complaint``, which is empty when it did."""

    @property
    def best(self) -> float | None:
        """The highest rate that passed; None when none did."""
        return max((step["rate"] for step in self.steps if not step["complaint"]), default=None)

    def to_json(self, model: ModelInfo) -> dict[str, Any]:
        """Return everything as JSON values; times in seconds, rates in requests a second."""
        return {
            **report_head(SATURATE, self.settings, model),
            "simulated": is_simulated(model),
            "p99_bound_seconds": self.p99_bound,
            "requests_per_second": self.best,
            "interrupted": self.interrupted,
            "error": self.error,
            "steps": self.steps,
        }


def find_saturation(
    prepared: Prepared, console: Console, *, p99_bound: float, seconds: float, start: float, in_flight: int
) -> Saturation:
    """Offer Poisson loads of different rates until the highest that passes is known to 5 %.

    Args:
        prepared: Images, model and how to send.
        console: Where each step is printed.
        p99_bound: Seconds that the p99 may reach.
        seconds: Length of a step, and up to four times that at rates that give fewer than 200 requests in it.
        start: The first rate, in requests a second; the lowest is a sixteenth of it.
        in_flight: Requests that may be in flight.

    Raises:
        LoadError: The first load could not be made.
    """
    base = replace(prepared.settings, concurrency=in_flight, seconds=seconds, requests=0, retries=False)
    saturation = Saturation(p99_bound, base)
    steps = saturation.steps

    def offer(rate: float) -> bool:
        length = max(seconds, min(LEAST_REQUESTS / rate, MOST_STRETCH * seconds))
        settings = replace(base, arrivals=Arrivals(rate, seed=len(steps)), seconds=length)
        found = measure(prepared.dataset, settings, prepared.model, console)
        complaint = judge(found.result, seconds=length, p99_bound=p99_bound)
        steps.append(
            {
                **point_json(found),
                "rate": rate,
                # As it came out: random arrivals differ from the rate they are drawn for.
                "sent_per_second": found.tally.requests / length,
                "complaint": complaint,
                "verdict": complaint or "yes",
            }
        )
        p99 = columns("latency_seconds/p99")[0].text(steps[-1])
        console.print(f"{rate:8.1f} requests/s: p99 {p99}, {complaint or 'passed'}", highlight=False, soft_wrap=True)
        return not complaint

    def passes(rate: float) -> bool:
        # What fails is offered once more: one hiccup of the machine must not be the bound of the search.
        return offer(rate) or offer(rate)

    with saturation.kept(steps):
        highest_passing(passes, start=start, lowest=start / LOWEST)
    return saturation


def judge(result: LoadResult, *, seconds: float, p99_bound: float) -> str:
    """Return why a load whose requests were due within ``seconds`` did not pass; empty when it did."""
    p99, failed = result.tally.percentile(99), result.tally.failed
    backlog = result.elapsed - seconds
    if failed:
        return f"{failed} requests failed"
    if p99 is None:
        return "nothing was answered"
    if p99 > p99_bound:
        return f"p99 is above {1000 * p99_bound:g} ms"
    if backlog > BACKLOG_SHARE * seconds + p99_bound:
        return f"the last answer came {backlog:.2f} s after the last request: the server does not keep up"
    return ""


def saturation_table(document: Mapping[str, Any], title: str) -> Table:
    """Return the steps by their rate, as a table for a terminal."""
    return rich_table(SATURATION_COLUMNS, by_rate(document), title)


def by_rate(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a search in the order of their rates."""
    return sorted(document["steps"], key=lambda step: float(step["rate"]))


def warnings(document: Mapping[str, Any]) -> list[str]:
    """Return a warning if the client, not the server, may have been the limit."""
    if any(step["client"]["bottleneck"] for step in document["steps"]):
        return ["At some rates a load process used more than 90 % of a core: the client may have been the bottleneck."]
    return []


def highest_passing(
    passes: Callable[[float], bool],
    *,
    start: float,
    lowest: float = 0.0,
    precision: float = 0.05,
    most_steps: int = 16,
) -> float | None:
    """Search for the highest value that passes, assuming that all values below a passing one pass too.

    Args:
        passes: Tries a value; each is tried once.
        start: The value to try first.
        lowest: Nothing below it is tried.
        precision: How close, as a share, a failing value must be above the answer.
        most_steps: Values that are tried at most; then the highest passing one so far is the answer.

    Returns:
        The highest value that passed; None when none did.
    """
    good, bad = 0.0, math.inf
    value = start
    for _ in range(most_steps):
        if passes(value):
            good = value
        else:
            bad = value
        if good and bad <= good * (1 + precision):
            break
        if math.isinf(bad):
            value = good * GROWTH
        elif not good:
            value = bad / GROWTH
            if value < lowest:
                break
        else:
            value = math.sqrt(good * bad)
    return good or None
