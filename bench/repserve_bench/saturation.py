"""``repserve bench saturate``: the highest rate at which a server's p99 stays under a bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from repserve_bench.arrivals import Arrivals
from repserve_bench.environment import describe_environment
from repserve_bench.load import LoadError, run_load
from repserve_bench.progress import make_display
from repserve_bench.report_file import SATURATE, SCHEMA_VERSION
from repserve_bench.search import highest_passing
from repserve_bench.served_model import describe_instances, is_simulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from repserve_bench.load import LoadResult, LoadSettings
    from repserve_bench.load_options import Prepared

BACKLOG_SHARE = 0.05
"""Of a step's length: when the last answer comes later than that after the last request, beyond the bound of the p99,
the queue was growing."""
LEAST_REQUESTS = 200
"""Of a step, which takes longer than asked for where that needs it: of fewer the p99 is little but the longest."""
MOST_STRETCH = 4
"""How much longer than asked for a step takes at most."""
LOWEST = 16
"""How many times lower than the first rate the lowest is that is tried."""


@dataclass(frozen=True)
class Step:
    """One rate that was tried; times in seconds, rates in requests a second."""

    rate: float
    sent_per_second: float
    """The rate as it came out: random arrivals differ from the rate they are drawn for."""
    answered_per_second: float
    p50_seconds: float | None
    p99_seconds: float | None
    failed: int
    client_bound: bool
    complaint: str
    """Why it did not pass; empty when it did."""


@dataclass(frozen=True)
class Saturation:
    """The outcome of a search."""

    p99_bound: float
    settings: LoadSettings
    """Those that all steps have in common."""
    steps: tuple[Step, ...]
    best: float | None
    """The highest rate that passed; None when none did."""
    interrupted: bool = False
    error: str = ""
    """Why the search ended before it found the rate."""

    @property
    def best_step(self) -> Step | None:
        """What was measured at the best rate."""
        return next((step for step in self.steps if step.rate == self.best and not step.complaint), None)


def find_saturation(
    prepared: Prepared, console: Console, *, p99_bound: float, seconds: float, start: float, in_flight: int
) -> Saturation:
    """Offers Poisson loads of different rates until the highest that passes is known to 5 %.

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
    steps: list[Step] = []
    base = replace(prepared.settings, concurrency=in_flight, seconds=seconds, requests=0, retries=False)

    def offer(rate: float) -> bool:
        length = max(seconds, min(LEAST_REQUESTS / rate, MOST_STRETCH * seconds))
        settings = replace(base, arrivals=Arrivals(rate, seed=len(steps)), seconds=length)
        with make_display(console, requests=0, seconds=length, accuracy=False) as display:
            result = run_load(prepared.dataset.samples, settings, display)
        if result.interrupted:
            raise KeyboardInterrupt
        step = judge(result, rate, seconds=length, p99_bound=p99_bound)
        steps.append(step)
        console.print(_line(step), highlight=False, soft_wrap=True)
        return not step.complaint

    def passes(rate: float) -> bool:
        # What fails is offered once more: one hiccup of the machine must not be the bound of the search.
        return offer(rate) or offer(rate)

    error: BaseException | None = None
    try:
        best = highest_passing(passes, start=start, lowest=start / LOWEST)
    except (KeyboardInterrupt, LoadError) as ended:
        if not steps:
            raise
        error = ended
        best = max((step.rate for step in steps if not step.complaint), default=None)
    interrupted = isinstance(error, KeyboardInterrupt)
    reason = "" if interrupted or error is None else str(error)
    return Saturation(p99_bound, base, tuple(steps), best, interrupted, reason)


def judge(result: LoadResult, rate: float, *, seconds: float, p99_bound: float) -> Step:
    """Says whether a load whose requests were due within ``seconds`` passed, and else why not."""
    tally = result.tally
    per_second = len(tally.latencies) / result.elapsed if result.elapsed else 0.0
    p99 = tally.percentile(99)
    backlog = result.elapsed - seconds
    if tally.failed:
        complaint = f"{tally.failed} requests failed"
    elif p99 is None:
        complaint = "nothing was answered"
    elif p99 > p99_bound:
        complaint = f"p99 is above {1000 * p99_bound:g} ms"
    elif backlog > BACKLOG_SHARE * seconds + p99_bound:
        complaint = f"the last answer came {backlog:.2f} s after the last request: it does not keep up"
    else:
        complaint = ""
    return Step(
        rate=rate,
        sent_per_second=tally.requests / seconds,
        answered_per_second=per_second,
        p50_seconds=tally.percentile(50),
        p99_seconds=p99,
        failed=tally.failed,
        client_bound=result.client_bound,
        complaint=complaint,
    )


def saturation_table(found: Saturation, title: str) -> Table:
    """Returns the steps by their rate, as a table for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in ("rate/s", "sent/s", "answered/s", "p50 ms", "p99 ms", "failed"):
        table.add_column(column, justify="right")
    table.add_column("passed")
    for step in sorted(found.steps, key=lambda step: step.rate):
        rates = (f"{value:.1f}" for value in (step.rate, step.sent_per_second, step.answered_per_second))
        table.add_row(*rates, _ms(step.p50_seconds), _ms(step.p99_seconds), f"{step.failed}", step.complaint or "yes")
    return table


def saturation_json(found: Saturation, prepared: Prepared) -> dict[str, object]:
    """Returns everything as JSON values."""
    model = prepared.model
    return {
        "schema": SATURATE,
        "schema_version": SCHEMA_VERSION,
        "environment": describe_environment(),
        "settings": asdict(found.settings),
        "model": {
            "name": model.name,
            "version": model.version,
            "simulated": is_simulated(model),
            **describe_instances(model),
        },
        "simulated": is_simulated(model),
        "p99_bound_seconds": found.p99_bound,
        "requests_per_second": found.best,
        "interrupted": found.interrupted,
        "error": found.error,
        "steps": [asdict(step) for step in found.steps],
    }


def warnings(steps: Sequence[Step]) -> list[str]:
    """Returns what a reader must know: that the client, not the server, may be what gave out."""
    if any(step.client_bound for step in steps):
        return ["At some rates a load process used more than 90 % of a core: the client may be what was saturated."]
    return []


def _line(step: Step) -> str:
    verdict = step.complaint or "passed"
    return f"{step.rate:8.1f} requests/s: p99 {_ms(step.p99_seconds)} ms, {verdict}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f}"
