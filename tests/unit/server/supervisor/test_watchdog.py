"""Which processes count as hung: by how long they are silent, what they do, and what a worker's batches cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from repserve_server.settings import Settings
from repserve_server.supervisor.models import Worker
from repserve_server.supervisor.watchdog import (
    FRONTEND_SECONDS,
    RUNS_ALLOWED,
    START_SECONDS,
    hung_frontends,
    hung_workers,
    silence_limit,
)
from support.fakes import READY

if TYPE_CHECKING:
    from repserve_server.supervisor.frontends import FrontendChild
    from repserve_server.supervisor.models import ModelVersion, WorkerChild

LIMITS = Settings(liveness_timeout_seconds=2.0, load_timeout_seconds=60.0)


def worker(asked_at: float | None, *, batch_seconds: float | None = 0.01, alive: bool = True) -> Worker:
    """A worker that was asked at that time and has not answered; not ready where it has no batch time."""
    costs = {} if batch_seconds is None else {1: batch_seconds / 10, 16: batch_seconds}
    ready = READY.model_copy(update={"batch_seconds": costs}) if costs else None
    return Worker("npu:0", 0, child=cast("WorkerChild", SimpleNamespace(alive=alive, asked_at=asked_at)), ready=ready)


def hung(*workers: Worker, now: float) -> list[tuple[Worker, float]]:
    models = [cast("ModelVersion", SimpleNamespace(workers=[one])) for one in workers]
    return list(hung_workers(models, LIMITS, now))


def test_a_worker_that_does_not_answer_in_time_is_named_with_its_silence() -> None:
    silent, answering, patient = worker(10.0), worker(None), worker(11.0)
    assert hung(silent, answering, patient, now=12.5) == [(silent, 2.5)]


def test_a_worker_is_named_once() -> None:
    silent = worker(10.0)
    silent.hung = True
    assert hung(silent, now=100.0) == []


def test_a_worker_that_ended_or_never_started_is_not_named() -> None:
    assert hung(worker(10.0, alive=False), Worker("npu:0", 0), now=1000.0) == []


def test_a_worker_that_loads_has_the_time_for_loading() -> None:
    loading = worker(10.0, batch_seconds=None)
    assert hung(loading, now=69.0) == []
    assert hung(loading, now=71.0) == [(loading, 61.0)]


@pytest.mark.parametrize(("seconds", "limit"), [(0.001, 2.0), (0.1, 2.0), (0.5, 0.5 * RUNS_ALLOWED)])
def test_a_slow_model_is_given_the_time_of_many_batches(seconds: float, limit: float) -> None:
    assert silence_limit(worker(0.0, batch_seconds=seconds), LIMITS) == pytest.approx(limit)


def frontend(asked_at: float | None, *, alive: bool = True, killed: bool = False) -> FrontendChild:
    return cast("FrontendChild", SimpleNamespace(alive=alive, killed=killed, asked_at=asked_at))


def test_a_frontend_that_does_not_answer_is_named_once_with_its_silence() -> None:
    silent = frontend(10.0)
    frontends = [silent, frontend(None), frontend(10.0, alive=False), frontend(10.0, killed=True)]
    started = [(child, True) for child in frontends]
    assert list(hung_frontends(started, LIMITS, 10.0 + FRONTEND_SECONDS)) == []
    assert list(hung_frontends(started, LIMITS, 11.0 + FRONTEND_SECONDS)) == [(silent, 1.0 + FRONTEND_SECONDS)]
    assert list(hung_frontends(started, Settings(liveness_timeout_seconds=60.0), 12.0 + FRONTEND_SECONDS)) == []


def test_a_frontend_has_more_time_to_start() -> None:
    starting = frontend(10.0)
    assert list(hung_frontends([(starting, False)], LIMITS, 10.0 + START_SECONDS)) == []
    assert list(hung_frontends([(starting, False)], LIMITS, 11.0 + START_SECONDS)) == [(starting, 1.0 + START_SECONDS)]
