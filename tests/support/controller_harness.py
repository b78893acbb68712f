"""A controller with processes that tests play by hand, and a clock that they move."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from repserve_server.channel.frontend_messages import FromFrontend, Started
from repserve_server.channel.message import CollectMetrics, Message, MetricsReport
from repserve_server.channel.requests import AnyRequest, AnyResponse, Call, Reply
from repserve_server.channel.worker_messages import FromWorker
from repserve_server.repository.config import ModelConfig
from repserve_server.repository.scan import ModelFolder, VersionFolder
from repserve_server.settings import Settings
from repserve_server.supervisor.controller import Controller
from repserve_server.supervisor.events import Event, MessageReceived, ProcessExited, TimerDue
from repserve_server.supervisor.kept_process import Context, Role, Wanted
from repserve_server.supervisor.metrics import ServerMetrics
from support.fakes import READY, FakeClock


class FakeChild:
    """A process that does what a test says; ``sent`` is what it was sent and the test has not taken."""

    def __init__(self, role: Role, name: str, pid: int) -> None:
        self.role, self.name, self.pid = role, name, pid
        self.sent: list[Message] = []
        self.alive = True
        self.killed = False

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:  # noqa: ARG002 - of the protocol
        assert self.alive
        self.sent.append(message)

    def kill(self) -> None:
        self.killed = True

    def take(self, kind: type[Message]) -> list[Message]:
        """What it was sent of a kind, which is then taken."""
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return found


class FakeLauncher:
    """Keeps every child that it has started; the next ``failures`` starts fail."""

    def __init__(self) -> None:
        self.children: list[FakeChild] = []
        self.failures = 0

    def launch(self, role: Role, name: str) -> FakeChild:
        if self.failures:
            self.failures -= 1
            raise OSError("no room")
        child = FakeChild(role, name, 1_000_000 + len(self.children))
        self.children.append(child)
        return child

    def alive(self, role: Role | None = None) -> list[FakeChild]:
        return [child for child in self.children if child.alive and role in (None, child.role)]


class FakeReader:
    """Keeps what is to be read."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []

    def read(self, name: str, request: int) -> None:
        self.requests.append((name, request))


def make_context(clock: FakeClock, launcher: FakeLauncher, **settings: Any) -> Context:  # noqa: ANN401
    chosen = Settings(**{"frontends": 1, **settings})
    return Context(Wanted(chosen, (1, 2), chosen.log_level), launcher, ServerMetrics(), clock)


def folder(*versions: int | tuple[int, str], name: str = "digits", **config: Any) -> ModelFolder:  # noqa: ANN401
    """A model folder with these versions; a version's second part tells its contents apart."""
    pairs = [(v, "a") if isinstance(v, int) else v for v in versions]
    found = tuple(VersionFolder(n, Path(name, str(n)), content, "") for n, content in pairs)
    problem = "" if versions else "no version is there yet"
    return ModelFolder(name, Path(name), ModelConfig.model_validate(config), versions=found, problem=problem)


class ControllerHarness:
    """A controller that reconciles after each event, as the supervisor has it."""

    def __init__(self, *folders: ModelFolder, held: Iterable[str] = (), **settings: Any) -> None:  # noqa: ANN401
        self.clock = FakeClock()
        self.launcher = FakeLauncher()
        self.reader = FakeReader()
        self.context = make_context(self.clock, self.launcher, **settings)
        self.controller = Controller(self.context, folders, held, self.reader)
        self._numbers = itertools.count(1)
        self.controller.reconcile()

    @property
    def frontends(self) -> list[FakeChild]:
        return self.launcher.alive("frontend")

    @property
    def workers(self) -> list[FakeChild]:
        return self.launcher.alive("worker")

    def happen(self, event: Event) -> None:
        self.controller.handle(event)
        self.controller.reconcile()

    def say(self, child: FakeChild, message: FromFrontend | FromWorker) -> None:
        self.happen(MessageReceived(child.name, message))

    def end(self, child: FakeChild, returncode: int = -signal.SIGSEGV) -> None:
        child.alive = False
        self.happen(ProcessExited(child.name, returncode))

    def answer_metrics(self) -> None:
        """Let every process answer that was asked."""
        for child in self.launcher.alive():
            if child.take(CollectMetrics):
                self.say(child, MetricsReport(snapshot=()))

    def wait(self, seconds: float) -> None:
        """Let time pass; every process that was asked answers."""
        self.answer_metrics()
        self.clock.advance(seconds)
        self.happen(TimerDue())
        self.answer_metrics()

    def start(self) -> None:
        """Let every frontend listen, and every worker be ready."""
        for child in self.frontends:
            self.say(child, Started())
        for child in self.workers:
            self.say(child, READY)

    def call(self, frontend: FakeChild, request: AnyRequest) -> int:
        number = next(self._numbers)
        self.say(frontend, Call(number=number, request=request))
        return number

    def response(self, frontend: FakeChild, number: int) -> AnyResponse | None:
        """The response to a call; None while there is none."""
        replies = [message for message in frontend.sent if isinstance(message, Reply) and message.number == number]
        assert len(replies) <= 1
        return replies[0].response if replies else None

    def states(self, name: str = "digits") -> list[tuple[str, str]]:
        return [(info.version, info.state) for info in self.controller.infos if info.name == name]


def running(*, frontends: int = 2, **settings: Any) -> ControllerHarness:  # noqa: ANN401
    """A server that is ready, with one model."""
    harness = ControllerHarness(folder(1), frontends=frontends, **settings)
    harness.start()
    return harness


def kinds(child: FakeChild, *wanted: type) -> list[type]:
    """The types of what a process was sent, of those that are wanted."""
    return [type(message) for message in child.sent if isinstance(message, wanted)]
