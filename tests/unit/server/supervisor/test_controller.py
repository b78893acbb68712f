"""The controller: how the server starts, who is connected with whom, which versions go, and how it ends."""

from __future__ import annotations

import signal

import pytest

from repserve_server.channel.frontend_messages import (
    AttachWorker,
    BecomeUnready,
    DetachWorker,
    Drain,
    Drained,
    OpenQueue,
    Retired,
    RetireRevision,
    Started,
    UpdateModel,
    UpdateReadiness,
)
from repserve_server.channel.message import Stop
from repserve_server.channel.worker_messages import AttachFrontend, LoadFailed
from repserve_server.supervisor.events import RepositoryScanned, SignalReceived
from support.controller_harness import ControllerHarness, folder, kinds, running
from support.fakes import READY

# Readiness and the start.


def test_it_is_ready_when_every_frontend_listens_and_every_model_is_settled() -> None:
    harness = ControllerHarness(folder(1), folder(1, name="other"), frontends=2)
    said = [harness.controller.readiness()]
    first, second = harness.frontends
    harness.say(first, Started())
    one, other = harness.workers
    harness.say(one, READY)
    said.append(harness.controller.readiness())
    harness.say(other, LoadFailed(reason="broken"))
    harness.end(other, 1)
    said.append(harness.controller.readiness())
    announced = [harness.controller.announced]
    harness.say(second, Started())
    said.append(harness.controller.readiness())
    assert [text for _, text in said] == ["loading: digits, other", "loading: other", "a frontend is starting", "ready"]
    announced.append(harness.controller.announced)
    assert announced == [False, True]
    harness.end(first)
    assert harness.controller.readiness() == (True, "ready"), "one that listens will do from now on"
    for message in (first.sent[-1], second.sent[-1]):
        assert message == UpdateReadiness(ready=True)


def test_where_nothing_can_be_served_it_ends_and_says_why() -> None:
    harness = ControllerHarness(folder(1), frontends=1)
    (worker,) = harness.workers
    harness.say(worker, LoadFailed(reason="torn"))
    harness.end(worker, 1)
    assert harness.controller.failure == "no model can be served: digits: torn"
    (frontend,) = harness.frontends
    assert frontend.take(Stop)
    harness.end(frontend, 0)
    assert harness.controller.exit_status == 1


# Frontends, workers, and versions that come and go.


def test_each_frontend_is_connected_with_each_worker_whichever_comes_first() -> None:
    harness = ControllerHarness(folder(1), frontends=2, instance_count=2)
    early, late = harness.frontends
    harness.say(early, Started())
    assert kinds(early, OpenQueue, AttachWorker) == []
    for worker in harness.workers:
        harness.say(worker, READY)
    harness.say(late, Started())
    for frontend in (early, late):
        assert kinds(frontend, OpenQueue, AttachWorker) == [OpenQueue, AttachWorker, AttachWorker]
    for worker in harness.workers:
        assert kinds(worker, AttachFrontend) == [AttachFrontend] * 2


@pytest.mark.parametrize(("returncode", "crashed"), [(-signal.SIGKILL, False), (-signal.SIGSEGV, True), (0, True)])
def test_frontends_learn_that_a_worker_has_ended_and_get_the_next(returncode: int, crashed: bool) -> None:
    harness = running()
    (worker,) = harness.workers
    harness.end(worker, returncode)
    for frontend in harness.frontends:
        (message,) = frontend.take(DetachWorker)
        assert isinstance(message, DetachWorker)
        assert (message.worker, message.crashed) == (worker.name, crashed)
        frontend.take(AttachWorker)
        frontend.take(OpenQueue)
    (again,) = harness.workers
    harness.say(again, READY)
    for frontend in harness.frontends:
        assert kinds(frontend, OpenQueue, AttachWorker) == [AttachWorker], "it keeps its slots"


def test_a_version_goes_when_every_frontend_has_answered_what_it_had() -> None:
    harness = running()
    first, second = harness.frontends
    (old,) = harness.workers
    harness.happen(RepositoryScanned((folder(1, 2),)))
    new = harness.workers[1]
    harness.say(new, READY)
    assert harness.states() == [("2", "ready")]
    for frontend in (first, second):
        # That it is replaced, before that it is to go.
        assert kinds(frontend, UpdateModel, RetireRevision)[-2:] == [UpdateModel, RetireRevision]
        (message,) = frontend.take(RetireRevision)
    assert isinstance(message, RetireRevision)
    harness.say(first, Retired(revision=message.revision))
    assert old.take(Stop) == []
    harness.end(second)
    assert old.take(Stop), "one that has died has no images any more"
    harness.end(old, 0)
    assert [worker.name for worker in harness.workers] == [new.name]


def test_a_worker_of_a_version_that_goes_is_replaced_while_images_wait_for_it() -> None:
    harness = running()
    first, second = harness.frontends
    (old,) = harness.workers
    harness.happen(RepositoryScanned((folder(2),)))
    harness.say(harness.workers[1], READY)
    (message,) = first.take(RetireRevision)
    assert isinstance(message, RetireRevision)
    harness.say(first, Retired(revision=message.revision))
    harness.end(old, -signal.SIGKILL)
    for frontend in (first, second):
        frontend.take(AttachWorker)
    again = harness.workers[-1]
    harness.say(again, READY)
    assert kinds(first, AttachWorker) == []
    assert kinds(second, AttachWorker) == [AttachWorker]


# The end.


def test_it_is_unready_first_then_drained_and_then_stopped_frontends_first() -> None:
    harness = running(shutdown_delay_seconds=3.0)
    harness.happen(SignalReceived(signal.SIGTERM))
    assert harness.controller.readiness() == (False, "draining")
    for child in harness.frontends:
        assert child.take(BecomeUnready)
        assert child.take(Drain) == []
    harness.wait(3.0)
    first, second = harness.frontends
    (worker,) = harness.workers
    for child in (first, second):
        assert child.take(Drain)
        assert child.take(Stop) == []
        harness.say(child, Drained())
    for child in (first, second):
        assert child.take(Stop)
        assert worker.take(Stop) == []
        harness.end(child, 0)
    assert worker.take(Stop)
    statuses = [harness.controller.exit_status]
    harness.end(worker, 0)
    assert [*statuses, harness.controller.exit_status] == [None, 0]
    assert len(harness.launcher.children) == 3


def test_a_worker_that_dies_during_the_drain_is_replaced_and_a_frontend_is_lost() -> None:
    harness = running()
    harness.happen(SignalReceived(signal.SIGINT))
    harness.end(harness.workers[0])
    assert len(harness.workers) == 1
    first, second = harness.frontends
    harness.end(first)
    assert harness.frontends == [second]
    harness.say(second, Drained())
    harness.end(second, 0)
    harness.end(harness.workers[0], 0)
    assert harness.controller.exit_status == 1


@pytest.mark.parametrize("how", ["signal", "time"])
def test_the_drain_ends_when_somebody_says_it_twice_or_the_time_is_over(how: str) -> None:
    harness = running(exit_timeout_seconds=20.0)
    harness.happen(SignalReceived(signal.SIGTERM))
    if how == "signal":
        harness.happen(SignalReceived(signal.SIGTERM))
    else:
        harness.wait(2.0)
        assert not any(child.take(Stop) for child in harness.frontends)
        harness.wait(20.0)
    for child in [*harness.frontends, *harness.workers]:
        assert child.take(Stop)
        harness.end(child, 0)
    assert harness.controller.exit_status == 1


def test_it_ends_even_where_a_process_cannot_be_killed() -> None:
    harness = running()
    harness.happen(SignalReceived(signal.SIGINT))
    for child in harness.frontends:
        harness.say(child, Drained())
        harness.end(child, 0)
    (worker,) = harness.workers
    harness.wait(5.0)
    assert worker.killed
    harness.wait(5.0)
    assert harness.controller.exit_status == 0
