"""Collecting the metrics of all processes, once a second and for each scrape.

It is also how hung processes are noticed: one that does not answer for long is killed (``KeptProcess.keep``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.kept_process import Context

METRICS_SECONDS = 1.0
"""How often the processes' counts are taken; a dead process's counts since the last time are lost."""
SCRAPE_SECONDS = 0.5
"""How long a scrape waits for a busy process before it shows that one's last counts."""


class MetricsPolling:
    """Brings the counts of all processes into the server's metrics."""

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self._context, self._fleet = context, fleet
        self._due: float | None = None
        self._deadlines: list[float] = []
        self._scrapes: list[tuple[asyncio.Future[None], Callable[[], bool]]] = []

    def collect(self) -> Callable[[], bool]:
        """Request every process's metrics; the result tells whether all have sent them, or have had the time to."""
        for process in self._fleet.processes:
            process.collect_metrics()
        deadline = self._context.clock() + SCRAPE_SECONDS
        self._deadlines.append(deadline)
        return lambda: self._context.clock() >= deadline or all(p.requested_at is None for p in self._fleet.processes)

    def scrape(self, counted: asyncio.Future[None]) -> None:
        """Request every process's metrics, and complete the future when they are there."""
        self._scrapes.append((counted, self.collect()))

    def tick(self) -> None:
        """Request every process's metrics once a second."""
        now = self._context.clock()
        if self._due is not None and now < self._due:
            return
        if self._due is not None:
            for process in self._fleet.processes:
                # While it was stopped or starved itself, the supervisor could not read what they sent.
                process.excuse(now - self._due)
        self._due = now + METRICS_SECONDS
        for process in self._fleet.processes:
            process.collect_metrics()

    def reconcile(self) -> None:
        """Complete the scrapes that have their counts."""
        now = self._context.clock()
        self._deadlines = [deadline for deadline in self._deadlines if deadline > now]
        scrapes, self._scrapes = self._scrapes, []
        for counted, is_counted in scrapes:
            if not is_counted():
                self._scrapes.append((counted, is_counted))
            elif not counted.done():
                counted.set_result(None)

    def next_due(self) -> float:
        """When ``tick`` or ``reconcile`` has something to do."""
        due = self._context.clock() if self._due is None else self._due
        return min([due, *self._deadlines])
