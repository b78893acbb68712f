"""Workers that fail to load, hang, die: who is given up, who is tried again, whichever comes first."""

from __future__ import annotations

import signal

import pytest

from repserve_server.channel.message import CollectMetrics, Stop
from repserve_server.channel.worker_messages import LoadWorker
from repserve_server.supervisor.kept_process import Wish
from repserve_server.supervisor.model_source import ModelSource
from repserve_server.supervisor.models import ModelVersion
from repserve_server.supervisor.workers import LOAD_ATTEMPTS
from support.controller_harness import FakeChild, FakeLauncher, folder, make_context
from support.fakes import READY, FakeClock

OTHER_CLASSES = READY.model_copy(update={"interface": READY.interface.model_copy(update={"classes": 5})})


class Harness:
    """A version whose workers are played by hand."""

    def __init__(self, instances: int = 1) -> None:
        self.clock = FakeClock()
        self.launcher = FakeLauncher()
        context = make_context(self.clock, self.launcher, instance_count=instances)
        digits = folder(1)
        self.model = ModelVersion(ModelSource(digits, digits.versions[0], context.wanted.settings), context)
        self.model.keep(Wish.RUN)

    def child(self, index: int = 0) -> FakeChild:
        child = self.model.workers[index].child
        assert isinstance(child, FakeChild)
        return child

    def ready(self, index: int = 0) -> None:
        self.model.take_ready(self.model.workers[index], READY)

    def end(self, returncode: int, index: int = 0) -> None:
        self.child(index).alive = False
        self.model.take_exit(self.model.workers[index], returncode)
        self.model.keep(Wish.RUN)

    def fail(self, index: int = 0, reason: str = "the device is busy") -> None:
        self.model.take_failure(self.model.workers[index], reason)
        self.end(1, index)

    def started_again(self, index: int = 0) -> FakeChild:
        """The next process, which may have to wait for its turn."""
        for _ in range(100):
            self.model.keep(Wish.RUN)
            if self.model.workers[index].child is not None:
                return self.child(index)
            self.clock.advance(1.0)
        raise AssertionError("no process was started")


def test_a_version_that_was_never_ready_is_given_up_for_a_reason_that_is_known() -> None:
    harness = Harness()
    harness.fail(reason="the labels are missing")
    assert (harness.model.state, harness.model.reason) == ("failed", "the labels are missing")
    harness.clock.advance(1000.0)
    harness.model.keep(Wish.RUN)
    assert harness.model.workers[0].child is None


def test_a_version_that_was_never_ready_is_given_up_after_several_crashes() -> None:
    harness = Harness()
    for attempt in range(1, LOAD_ATTEMPTS + 1):
        harness.started_again()
        states = [harness.model.state]
        harness.end(-signal.SIGSEGV)
        states.append(harness.model.state)
        assert states == ["loading", "failed" if attempt == LOAD_ATTEMPTS else "loading"]
    assert "was ended by SIGSEGV while loading, 3 times" in harness.model.reason


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_worker_that_fails_has_the_same_chance_whichever_is_ready_first(order: tuple[int, int]) -> None:
    harness = Harness(instances=2)
    for index in order:
        if index == 0:
            harness.ready(0)
        else:
            harness.fail(1)
    assert harness.model.state == "ready"
    harness.started_again(1)
    harness.ready(1)
    assert len(harness.model.ready_workers) == 2


def test_a_version_that_was_served_is_tried_on_and_refuses_after_several_failures() -> None:
    harness = Harness()
    harness.ready()
    harness.end(-signal.SIGKILL)
    states = [harness.model.state]
    for _ in range(LOAD_ATTEMPTS):
        harness.started_again()
        harness.fail()
        states.append(harness.model.state)
    assert states == ["restarting"] * LOAD_ATTEMPTS + ["failed"]
    assert harness.model.reason == "the device is busy"
    harness.started_again()
    harness.ready()
    assert harness.model.state == "ready"


def test_a_version_that_was_served_does_not_fail_when_somebody_kills_its_workers() -> None:
    harness = Harness()
    harness.ready()
    states = []
    for _ in range(LOAD_ATTEMPTS + 2):
        harness.started_again()
        harness.end(-signal.SIGKILL)
        states.append(harness.model.state)
    assert states == ["restarting"] * (LOAD_ATTEMPTS + 2)


def test_a_worker_that_hangs_in_loading_is_given_up_and_the_reason_says_so() -> None:
    harness = Harness()
    harness.model.workers[0].collect_metrics()
    assert harness.child().take(CollectMetrics)
    harness.clock.advance(601.0)
    harness.model.keep(Wish.RUN)
    assert harness.child().killed
    harness.end(-signal.SIGKILL)
    assert harness.model.state == "failed"
    assert "still loading its model after 601 s (load_timeout_seconds)" in harness.model.reason


def test_a_worker_that_reads_slots_otherwise_is_refused() -> None:
    harness = Harness(instances=2)
    harness.ready(0)
    harness.model.take_ready(harness.model.workers[1], OTHER_CLASSES)
    harness.model.keep(Wish.RUN)
    assert [type(message) for message in harness.child(1).sent] == [LoadWorker, Stop]
    harness.end(0, 1)
    assert "classes=5" in harness.model.workers[1].failure
    assert harness.model.settled
    harness.clock.advance(1000.0)
    harness.model.keep(Wish.RUN)
    assert harness.model.workers[1].child is None


def test_a_version_that_is_released_is_stopped_and_not_started_again() -> None:
    harness = Harness(instances=2)
    harness.ready(0)
    children = [harness.child(0), harness.child(1)]
    harness.model.released = True
    harness.model.keep(Wish.RUN)
    for index, child in enumerate(children):
        assert child.take(Stop)
        harness.end(0, index)
    harness.model.keep(Wish.RUN)
    assert harness.model.gone
    assert harness.launcher.alive() == []
