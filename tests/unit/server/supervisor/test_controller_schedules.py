"""The controller under random events: what must hold whatever happens, in whatever order."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from repserve_server.channel.frontend_messages import (
    Drain,
    Drained,
    Retired,
    RetireRevision,
    Started,
    UpdateModel,
)
from repserve_server.channel.message import CollectMetrics, MetricsReport, Stop
from repserve_server.channel.model_info import ModelInfo
from repserve_server.channel.requests import (
    Call,
    Done,
    Failure,
    LoadModel,
    Region,
    RegisterRegion,
    Reply,
    UnloadModel,
    UnregisterRegion,
)
from repserve_server.channel.worker_messages import LoadFailed
from repserve_server.errors import Status
from repserve_server.supervisor.events import ModelScanned, RepositoryScanned, SignalReceived, TimerDue
from support.controller_harness import ControllerHarness, FakeChild, folder
from support.examples import scaled
from support.fakes import READY

NAMES = ("a", "b")
contents = st.dictionaries(st.integers(1, 3), st.sampled_from("xy"), max_size=3)


class Schedules(RuleBasedStateMachine):
    """Two models, two frontends, two workers a version; processes that answer when asked, unless they hang."""

    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp())
        for name in NAMES:
            (self.root / name).mkdir()
        self.descriptors = len(list(Path("/proc/self/fd").iterdir()))
        self.repository = {name: folder(1, name=name) for name in NAMES}
        self.harness = ControllerHarness(
            *self.repository.values(),
            frontends=2,
            instance_count=2,
            model_control_mode="explicit",
            model_repository=self.root,
        )
        self.listening = {child.name for child in self.harness.frontends}
        self.ready = {child.name for child in self.harness.workers}
        self.harness.start()
        self.hanging: set[str] = set()
        self.calls: list[tuple[FakeChild, int]] = []
        self.leaving = False
        self.views: dict[str, dict[str, tuple[ModelInfo, ...]]] = {}
        self.served = self._served()
        self.loaded = dict.fromkeys((version.revision for version in self.harness.controller._fleet.versions), False)
        """By revision: whether another version of the model served when it was loaded."""

    # What happens.

    @rule(data=st.data())
    def a_frontend_listens(self, data: st.DataObject) -> None:
        for child in self._choose(data, [c for c in self.harness.frontends if c.name not in self.listening]):
            self.listening.add(child.name)
            self.harness.say(child, Started())

    @rule(data=st.data(), count=st.integers(1, 4))
    def workers_are_ready(self, data: st.DataObject, count: int) -> None:
        for child in self._choose(data, [c for c in self.harness.workers if c.name not in self.ready], count):
            self.ready.add(child.name)
            self.harness.say(child, READY)

    @rule(data=st.data())
    def a_worker_cannot_load(self, data: st.DataObject) -> None:
        for child in self._choose(data, [c for c in self.harness.workers if c.name not in self.ready]):
            self.harness.say(child, LoadFailed(reason="broken"))
            self.harness.end(child, 1)

    @rule(data=st.data(), returncode=st.sampled_from([-signal.SIGKILL, -signal.SIGSEGV, 0, 3]))
    def a_process_ends(self, data: st.DataObject, returncode: int) -> None:
        for child in self._choose(data, self.harness.launcher.alive()):
            if child.name in self.ready or child.role == "frontend":
                self.served = {}  # Those that it served may have nobody else now.
            self.harness.end(child, returncode)

    @rule(data=st.data())
    def a_process_hangs(self, data: st.DataObject) -> None:
        self.hanging |= {child.name for child in self._choose(data, self.harness.launcher.alive())}

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 61.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(2):
            self.harness.clock.advance(seconds / 2)
            self.harness.happen(TimerDue())

    @rule(name=st.sampled_from(NAMES), versions=contents, policy=st.sampled_from(["all", {"latest": 1}]))
    def the_repository_changes(self, name: str, versions: dict[int, str], policy: object) -> None:
        self.repository[name] = folder(*sorted(versions.items()), name=name, version_policy=policy)
        if not versions:
            self.served.pop(name, None)
        self.harness.happen(RepositoryScanned(tuple(self.repository.values())))

    @rule(data=st.data(), name=st.sampled_from(NAMES), often=st.integers(0, 4))
    def a_model_is_unloaded(self, data: st.DataObject, name: str, often: int) -> None:
        if often:
            return
        for frontend in self._choose(data, [c for c in self.harness.frontends if c.name in self.listening]):
            self.served.pop(name, None)
            self.calls.append((frontend, self.harness.call(frontend, UnloadModel(model=name))))

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def a_model_is_loaded(self, data: st.DataObject, name: str) -> None:
        for frontend in self._choose(data, [c for c in self.harness.frontends if c.name in self.listening]):
            self.calls.append((frontend, self.harness.call(frontend, LoadModel(model=name))))

    @rule(data=st.data(), name=st.sampled_from("rs"), register=st.booleans())
    def a_region_is_registered_or_not(self, data: st.DataObject, name: str, register: bool) -> None:
        region = Region(name, "/object", 0, data.draw(st.integers(1, 2)))
        request = RegisterRegion(region=region) if register else UnregisterRegion(name=name)
        for frontend in self._choose(data, [c for c in self.harness.frontends if c.name in self.listening]):
            self.calls.append((frontend, self.harness.call(frontend, request)))

    @rule(data=st.data(), works=st.booleans())
    def a_frontend_answers_its_calls(self, data: st.DataObject, works: bool) -> None:
        response = Done() if works else Failure(status=Status.INVALID_ARGUMENT, message="no such object")
        for child in self._choose(data, [c for c in self.harness.frontends if _holds(c, Call)]):
            for call in child.take(Call):
                assert isinstance(call, Call)
                self.harness.say(child, Reply(number=call.number, response=response))

    @rule(data=st.data())
    def a_frontend_has_answered_what_a_version_had(self, data: st.DataObject) -> None:
        for child in self._choose(data, [c for c in self.harness.frontends if _holds(c, RetireRevision)]):
            (message, *others) = child.take(RetireRevision)
            child.sent += others
            assert isinstance(message, RetireRevision)
            self.harness.say(child, Retired(revision=message.revision))

    @rule(data=st.data())
    def a_process_that_is_to_stop_ends(self, data: st.DataObject) -> None:
        for child in self._choose(data, [c for c in self.harness.launcher.alive() if _holds(c, Stop)]):
            self.harness.end(child, 0)

    @rule(failures=st.integers(1, 2))
    def the_system_has_no_room(self, failures: int) -> None:
        self.harness.launcher.failures = failures

    @precondition(lambda self: not self.leaving)
    @rule(number=st.sampled_from([signal.SIGTERM, signal.SIGINT]), often=st.integers(0, 9))
    def somebody_wants_it_to_end(self, number: signal.Signals, often: int) -> None:
        if often == 0:
            self.leaving = True
            self.harness.happen(SignalReceived(number))

    # What must hold.

    @invariant()
    def it_holds(self) -> None:
        self._settle()
        self._check_started_once()
        self._check_stopped_with_reason()
        self._check_views()
        served = self._served()
        if not self.leaving and self.harness.controller.exit_status is None and not self.harness.controller.failure:
            for name in self.served.keys() - served.keys():
                raise AssertionError(f"{name} was served, and is not any more")
            self._check_successors(served)
        self.served = served

    def _settle(self) -> None:
        """Processes that were killed end, others answer; a model's folder is read when a client wants it loaded."""
        for child in self.harness.launcher.alive():
            if child.killed:
                if child.name in self.ready:
                    self.served = {}
                self.harness.end(child, -signal.SIGKILL)
        for name, request in self.harness.reader.requests:
            self.harness.happen(ModelScanned(request, self.repository[name]))
        self.harness.reader.requests.clear()
        for child in self.harness.launcher.alive():
            if child.name not in self.hanging and child.take(CollectMetrics):
                self.harness.say(child, MetricsReport(snapshot=()))
        before = sum(len(child.sent) for child in self.harness.launcher.children), len(self.harness.launcher.children)
        self.harness.controller.reconcile()
        after = sum(len(child.sent) for child in self.harness.launcher.children), len(self.harness.launcher.children)
        assert before == after, "nothing has happened, and nothing is to be done"

    def _check_started_once(self) -> None:
        places = [child.name.rpartition(".")[0] for child in self.harness.launcher.alive()]
        assert len(places) == len(set(places))

    def _check_stopped_with_reason(self) -> None:
        """No ready worker is stopped as long as a frontend would send it images."""
        if self.leaving or self.harness.controller.failure:
            return
        shown = {info.revision for view in self.views.values() for infos in view.values() for info in infos}
        for child in self.harness.workers:
            if child.name in self.ready and _holds(child, Stop):
                assert _revision(child) not in shown

    def _check_successors(self, served: dict[str, list[int]]) -> None:
        """Who takes over from a version that serves has all of its workers, or knows that they will not come.

        Versions that were loaded when none served do not take over from each other: each serves as soon as it can.
        """
        for version in self.harness.controller._fleet.versions:
            before, now = self.served.get(version.name, []), served.get(version.name, [])
            if version.revision not in self.loaded:
                self.loaded[version.revision] = bool(set(before) & set(now))
            elif self.loaded[version.revision] and before and version.revision in set(now) - set(before):
                assert version.settled

    def _check_views(self) -> None:
        """Every frontend has been sent the models as they are."""
        truth: dict[str, tuple[ModelInfo, ...]] = {}
        for info in self.harness.controller.infos:
            truth[info.name] = (*truth.get(info.name, ()), info)
        self.views = {}
        for child in self.harness.frontends:
            if child.name in self.listening:
                view: dict[str, tuple[ModelInfo, ...]] = {}
                for message in child.sent:
                    if isinstance(message, UpdateModel):
                        view[message.model] = message.versions
                self.views[child.name] = {name: infos for name, infos in view.items() if infos}
                assert self.views[child.name] == truth

    def _served(self) -> dict[str, list[int]]:
        served: dict[str, list[int]] = {}
        for info in self.harness.controller.infos:
            if info.state in ("ready", "restarting"):
                served.setdefault(info.name, []).append(info.revision)
        return served

    @staticmethod
    def _choose(data: st.DataObject, children: list[FakeChild], count: int = 1) -> list[FakeChild]:
        """Some of these; none where there is none."""
        some = (
            st.lists(st.sampled_from(children), max_size=count, min_size=1, unique_by=id) if children else st.just([])
        )
        return data.draw(some, label="processes")

    def teardown(self) -> None:
        """It ends after a signal, whatever happened before, and leaves nothing behind."""
        if not hasattr(self, "harness"):
            return
        shutil.rmtree(self.root)
        self.hanging.clear()
        if not self.leaving:
            self.harness.happen(SignalReceived(signal.SIGTERM))
        for _ in range(50):
            if self.harness.controller.exit_status is not None:
                break
            for child in self.harness.launcher.alive():
                if child.take(Drain):
                    self.harness.say(child, Drained())
                if child.killed or child.take(Stop):
                    self.harness.end(child, 0)
            self.harness.clock.advance(1.0)
            self.harness.happen(TimerDue())
        assert self.harness.controller.exit_status is not None
        assert self.harness.launcher.alive() == []
        # Fewer where the garbage collector has closed what earlier tests left to it.
        assert len(list(Path("/proc/self/fd").iterdir())) <= self.descriptors
        for frontend, number in self.calls:
            self.harness.response(frontend, number)


def _holds(child: FakeChild, kind: type) -> bool:
    return any(isinstance(message, kind) for message in child.sent)


def _revision(child: FakeChild) -> int:
    return int(child.name.rpartition("#")[2].split(".")[1])


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(max_examples=scaled(60), stateful_step_count=40, deadline=None)
