"""The watchdog: which workers and frontends have been silent for too long.

A runtime may hold Python's lock for the whole of a run, so no thread of the worker can tell that a run hangs. The
supervisor asks every child for its metrics once a second, and a worker answers between two batches: one that does not
answer for long hangs, in a run, in loading its model, or because it was stopped. A frontend answers between two steps
of its event loop, and one that does not serves nobody, though its port takes connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.channel.frontend_messages import FromFrontend
    from repserve_server.settings import Settings
    from repserve_server.supervisor.child import Child
    from repserve_server.supervisor.models import ModelVersion, Worker

RUNS_ALLOWED = 20
"""A worker is given the time of so many of its largest batches, however short ``liveness_timeout_seconds`` is."""

FRONTEND_SECONDS = 10.0
"""A frontend may be silent for so long, however short ``liveness_timeout_seconds`` is: a new one would lack CPU too."""
START_SECONDS = 60.0
"""A frontend may be silent for so long while it starts."""


def silence_limit(worker: Worker, settings: Settings) -> float:
    """Seconds for which a worker may be silent: while it loads, and once it is ready."""
    if worker.ready is None:
        return settings.load_timeout_seconds
    largest: float = max(worker.ready.batch_seconds.values())
    return max(settings.liveness_timeout_seconds, RUNS_ALLOWED * largest)


def hung_workers(models: Iterable[ModelVersion], settings: Settings, now: float) -> Iterator[tuple[Worker, float]]:
    """Workers that hang, and for how many seconds they have been silent; each is named once.

    Args:
        models: every model version.
        settings: the limits.
        now: time on the clock of ``Child.asked_at``.
    """
    for model in models:
        for worker in model.workers:
            child = worker.child
            if child is None or not child.alive or child.asked_at is None or worker.hung:
                continue
            silent = now - child.asked_at
            if silent > silence_limit(worker, settings):
                yield worker, silent


def hung_frontends(
    frontends: Iterable[tuple[Child[FromFrontend], bool]], settings: Settings, now: float
) -> Iterator[tuple[Child[FromFrontend], float]]:
    """Frontends that hang, and for how many seconds they have been silent.

    Args:
        frontends: each with whether it has started.
        settings: the limit.
        now: time on the clock of ``Child.asked_at``.
    """
    for child, started in frontends:
        limit = max(settings.liveness_timeout_seconds, FRONTEND_SECONDS) if started else START_SECONDS
        if child.alive and not child.killed and child.asked_at is not None and now - child.asked_at > limit:
            yield child, now - child.asked_at
