"""Workers that fail to load, hang, die: who is given up, who is tried again, whichever comes first."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest

from repserve_server.channel.message import Message, Stop
from repserve_server.channel.worker_messages import LoadFailed, LoadWorker
from repserve_server.repository.config import ModelConfig
from repserve_server.repository.scan import ModelFolder, VersionFolder
from repserve_server.settings import Settings
from repserve_server.supervisor import workers as module
from repserve_server.supervisor.metrics import ServerMetrics
from repserve_server.supervisor.models import LOAD_ATTEMPTS, ModelVersion
from repserve_server.supervisor.workers import WorkerEvents, Workers
from support.fakes import READY
from support.queue_harness import WAIT_SECONDS, run_async, settle

OTHER_CLASSES = READY.model_copy(update={"interface": READY.interface.model_copy(update={"classes": 5})})


class FakeChild:
    """A process that does what a test says."""

    def __init__(self, name: str, role: str, _module: str, _incoming: object, *, on_message: Any, on_exit: Any) -> None:  # noqa: ANN401
        self.name, self.role, self.pid = name, role, id(self)
        self.returncode: int | None = None
        self.sent: list[type[Message]] = []
        self.exited = asyncio.Event()
        self.asked_at: float | None = None
        self._on_message, self._on_exit = on_message, on_exit

    @property
    def alive(self) -> bool:
        return self.returncode is None

    def send(self, message: Message, _descriptors: object = ()) -> None:
        self.sent.append(type(message))

    def say(self, message: Message) -> None:
        self._on_message(self, message)

    def kill(self) -> None:
        self.end(-signal.SIGKILL)

    def end(self, returncode: int) -> None:
        if self.alive:
            self.returncode = returncode
            self.exited.set()
            self._on_exit(self)


class Harness:
    def __init__(self, instances: int = 1) -> None:
        settings = Settings(instance_count=instances)
        folder = ModelFolder("m", Path("m"), ModelConfig(), versions=(VersionFolder(1, Path("m/1")),))
        self.model = ModelVersion(folder, folder.versions[0], settings)
        metrics = ServerMetrics(list)
        events = WorkerEvents(lambda _model, _worker: None, lambda *_: None, lambda: None, lambda *_: None)
        self.workers = Workers(settings, metrics, events, lambda: "info")
        self.workers.start(self.model)

    def child(self, index: int = 0) -> FakeChild:
        child = self.model.workers[index].child
        assert child is not None
        return cast("FakeChild", child)

    def fail(self, index: int = 0, reason: str = "the device is busy") -> None:
        child = self.child(index)
        child.say(LoadFailed(reason=reason))
        child.end(1)

    async def started_again(self, index: int = 0) -> FakeChild:
        """The next process, which may have to wait for its turn."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.model.workers[index].child is None:
            assert time.monotonic() < deadline, "no process was started"
            await settle()
        return self.child(index)


@pytest.fixture(autouse=True)
def fake_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Child", FakeChild)


def test_a_version_that_was_never_ready_is_given_up_for_a_reason_that_is_known() -> None:
    async def test() -> None:
        harness = Harness()
        harness.fail(reason="the labels are missing")
        assert (harness.model.state, harness.model.reason) == ("failed", "the labels are missing")
        await settle()
        assert harness.model.workers[0].child is None

    run_async(test)


def test_a_version_that_was_never_ready_is_given_up_after_several_crashes() -> None:
    async def test() -> None:
        harness = Harness()
        for attempt in range(1, LOAD_ATTEMPTS + 1):
            child = await harness.started_again()
            states = [harness.model.state]
            child.end(-signal.SIGSEGV)
            states.append(harness.model.state)
            assert states == ["loading", "failed" if attempt == LOAD_ATTEMPTS else "loading"]
        assert "was ended by SIGSEGV while loading, 3 times" in harness.model.reason

    run_async(test)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_worker_that_fails_has_the_same_chance_whichever_is_ready_first(order: tuple[int, int]) -> None:
    async def test() -> None:
        harness = Harness(instances=2)
        for index in order:
            if index == 0:
                harness.child(0).say(READY)
            else:
                harness.fail(1)
        assert harness.model.state == "ready"
        child = await harness.started_again(1)
        child.say(READY)
        assert len(harness.model.ready_workers) == 2

    run_async(test)


def test_a_version_that_was_served_is_tried_on_and_refuses_after_several_failures() -> None:
    async def test() -> None:
        harness = Harness()
        harness.child().say(READY)
        harness.child().kill()
        states = [harness.model.state]
        for _ in range(LOAD_ATTEMPTS):
            await harness.started_again()
            harness.fail()
            states.append(harness.model.state)
        assert states == ["restarting"] * LOAD_ATTEMPTS + ["failed"]
        assert harness.model.reason == "the device is busy"
        child = await harness.started_again()
        child.say(READY)
        assert harness.model.state == "ready"

    run_async(test)


def test_a_version_that_was_served_does_not_fail_when_somebody_kills_its_workers() -> None:
    async def test() -> None:
        harness = Harness()
        harness.child().say(READY)
        states = []
        for _ in range(LOAD_ATTEMPTS + 2):
            (await harness.started_again()).kill()
            states.append(harness.model.state)
        assert states == ["restarting"] * (LOAD_ATTEMPTS + 2)

    run_async(test)


def test_a_worker_that_hangs_in_loading_is_given_up_and_the_reason_says_so() -> None:
    async def test() -> None:
        harness = Harness()
        harness.child().asked_at = asyncio.get_running_loop().time() - 601.0
        harness.workers.kill_hung([harness.model])
        assert harness.model.state == "failed"
        assert "still loading its model after 601 s (load_timeout_seconds)" in harness.model.reason

    run_async(test)


def test_a_worker_that_reads_slots_otherwise_is_refused() -> None:
    async def test() -> None:
        harness = Harness(instances=2)
        harness.child(0).say(READY)
        harness.child(1).say(OTHER_CLASSES)
        assert harness.child(1).sent == [LoadWorker, Stop]
        harness.child(1).end(0)
        assert "classes=5" in harness.model.workers[1].failure
        assert harness.model.settled

    run_async(test)


def test_a_version_that_is_stopped_is_not_started_again() -> None:
    async def test() -> None:
        harness = Harness(instances=2)
        harness.child(0).say(READY)
        children = [harness.child(0), harness.child(1)]
        stop = asyncio.ensure_future(harness.workers.stop(harness.model))
        await settle()
        for child in children:
            assert child.sent[-1] is Stop
            child.end(0)
        await asyncio.wait_for(stop, 5)
        assert [worker.child for worker in harness.model.workers] == [None, None]

    run_async(test)
