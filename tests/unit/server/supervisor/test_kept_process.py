"""A kept process: started again with care, killed when it is silent for too long, stopped without mercy."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from repserve_server.channel.message import CollectMetrics, SetLogLevel, Stop
from repserve_server.channel.worker_messages import WorkerReady
from repserve_server.supervisor.backoff import FIRST_SECONDS
from repserve_server.supervisor.frontends import SILENT_SECONDS, START_SECONDS, Frontend
from repserve_server.supervisor.kept_process import STOP_SECONDS, KeptProcess, Wish
from repserve_server.supervisor.model_source import ModelSource
from repserve_server.supervisor.workers import RUNS_ALLOWED, Worker
from support.controller_harness import FakeChild, FakeLauncher, folder, make_context
from support.fakes import READY, FakeClock

LIMITS = {"liveness_timeout_seconds": 2.0, "load_timeout_seconds": 60.0}


class Harness:
    """A worker or a frontend, and the process there."""

    def __init__(self, role: str = "worker", **settings: Any) -> None:  # noqa: ANN401
        self.clock, self.launcher = FakeClock(), FakeLauncher()
        context = make_context(self.clock, self.launcher, **{**LIMITS, **settings})
        self.context = context
        digits = folder(1)
        self.kept: KeptProcess = (
            Frontend(0, context)
            if role == "frontend"
            else Worker(ModelSource(digits, digits.versions[0], context.wanted.settings), 1, "cpu", 0, context)
        )
        self.kept.keep()

    @property
    def child(self) -> FakeChild:
        assert isinstance(self.kept.child, FakeChild)
        return self.kept.child

    def killed_after(self, seconds: float) -> bool:
        """Whether it is killed when it is asked and does not answer for so long."""
        self.kept.collect_metrics()
        self.clock.advance(seconds)
        self.kept.keep()
        return self.child.killed

    def hung(self) -> float | None:
        labels: dict[str, str] = {"role": self.kept.role}
        return self.context.metrics.registry.get_sample_value("repserve_hung_processes_total", labels)


def ready(batch_seconds: float) -> WorkerReady:
    return READY.model_copy(update={"batch_seconds": {1: batch_seconds / 10, 16: batch_seconds}})


def worker(batch_seconds: float = 0.01) -> Harness:
    harness = Harness()
    assert isinstance(harness.kept, Worker)
    harness.kept.serve(ready(batch_seconds))
    return harness


def test_a_worker_that_does_not_answer_in_time_is_killed_once(caplog: pytest.LogCaptureFixture) -> None:
    harness = worker()
    assert not harness.killed_after(2.0)
    assert harness.killed_after(0.5)
    assert "has not answered for 2.5 s, in a run on the device" in caplog.text
    harness.child.killed = False
    assert not harness.killed_after(100.0)
    assert harness.hung() == 1


def test_a_worker_that_answers_is_not_killed() -> None:
    harness = worker()
    for _ in range(10):
        assert not harness.killed_after(1.5)
        assert harness.child.take(CollectMetrics)
        harness.kept.requested_at = None


def test_a_worker_that_loads_has_the_time_for_loading() -> None:
    harness = Harness()
    assert not harness.killed_after(59.0)
    assert harness.killed_after(2.0)


@pytest.mark.parametrize(("seconds", "limit"), [(0.001, 2.0), (0.1, 2.0), (0.5, 0.5 * RUNS_ALLOWED)])
def test_a_slow_model_is_given_the_time_of_many_batches(seconds: float, limit: float) -> None:
    assert worker(seconds).kept.silence_limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("started", "liveness", "limit"),
    [(True, 2.0, SILENT_SECONDS), (True, 60.0, 60.0), (False, 2.0, START_SECONDS), (False, 90.0, START_SECONDS)],
)
def test_a_frontend_that_does_not_answer_is_killed_later(started: bool, liveness: float, limit: float) -> None:
    harness = Harness("frontend", liveness_timeout_seconds=liveness)
    assert isinstance(harness.kept, Frontend)
    if started:
        harness.kept.take_started()
    assert not harness.killed_after(limit)
    assert harness.killed_after(0.1)
    assert harness.hung() == 1


def test_a_frontend_could_not_answer_before_it_listens() -> None:
    harness = Harness("frontend")
    assert isinstance(harness.kept, Frontend)
    assert not harness.killed_after(START_SECONDS - 1.0)
    harness.kept.take_started()
    assert not harness.killed_after(SILENT_SECONDS)
    assert harness.killed_after(0.1)


def test_the_silence_of_a_process_that_has_ended_does_not_count_for_the_next() -> None:
    harness = worker()
    harness.kept.collect_metrics()
    harness.kept.exited(-signal.SIGSEGV)
    harness.kept.keep()
    harness.clock.advance(1000.0)
    harness.kept.keep()
    assert len(harness.launcher.children) == 2
    assert not harness.child.killed


def test_the_next_process_is_killed_too_if_it_hangs() -> None:
    harness = Harness()
    for hung in (1, 2):
        assert harness.killed_after(61.0)
        assert harness.hung() == hung
        harness.kept.exited(-signal.SIGKILL)
        harness.clock.advance(30.0)
        harness.kept.keep()


def test_time_by_which_the_supervisor_was_late_does_not_count() -> None:
    harness = worker()
    harness.kept.collect_metrics()
    harness.clock.advance(60.0)
    harness.kept.excuse(59.0)
    harness.kept.keep()
    assert not harness.child.killed


def test_it_is_started_again_at_once_and_then_later_and_later() -> None:
    harness = Harness()
    delays = []
    for _ in range(4):
        harness.kept.exited(-signal.SIGSEGV)
        due = harness.kept.next_due()
        assert due is not None
        delays.append(due - harness.clock.now)
        harness.clock.now = due
        harness.kept.keep()
    assert delays == pytest.approx([0.0, FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS])
    assert len(harness.launcher.children) == 5
    assert len({child.name for child in harness.launcher.children}) == 5


def test_where_the_system_has_no_room_it_is_tried_again() -> None:
    harness = Harness()
    harness.launcher.failures = 3
    harness.kept.exited(1)
    for _ in range(3):
        harness.kept.keep()
        assert harness.kept.child is None
        harness.clock.advance(10.0)
    harness.kept.keep()
    assert harness.kept.child is not None


def test_one_that_does_not_stop_is_killed_and_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness()
    harness.kept.wish = Wish.STOP
    for _ in range(3):
        harness.kept.keep()
    assert len(harness.child.take(Stop)) == 1
    harness.clock.advance(STOP_SECONDS)
    harness.kept.keep()
    assert harness.child.killed
    assert "did not end and is killed" in caplog.text
    harness.kept.exited(-signal.SIGKILL)
    harness.clock.advance(1000.0)
    harness.kept.keep()
    assert harness.kept.child is None
    assert harness.kept.next_due() is None


def test_one_that_is_to_finish_goes_on_and_is_not_started_again() -> None:
    harness = Harness()
    harness.kept.wish = Wish.FINISH
    harness.kept.keep()
    assert harness.child.take(Stop) == []
    harness.kept.exited(0)
    harness.kept.keep()
    assert harness.kept.child is None


def test_it_logs_from_the_level_that_is_wanted() -> None:
    harness = Harness()
    harness.context.wanted.log_level = "debug"
    for _ in range(2):
        harness.kept.keep()
    assert harness.child.take(SetLogLevel) == [SetLogLevel(level="debug")]
    harness.kept.exited(1)
    harness.kept.keep()
    assert harness.child.take(SetLogLevel) == [], "it was started with it"
