"""What the system refuses or does to processes, and the controller: the rest of the server goes on."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from repserve_server.channel.frontend_messages import AttachWorker, OpenQueue, Started, UpdateModel, UpdateReadiness
from repserve_server.channel.message import Message, Stop
from repserve_server.channel.requests import (
    Call,
    Done,
    Failure,
    ListRegions,
    Region,
    RegionList,
    RegisterRegion,
    Reply,
    UnregisterRegion,
)
from repserve_server.errors import Status
from repserve_server.supervisor import connections
from repserve_server.supervisor.events import MessageReceived, SignalReceived, TimerDue
from repserve_server.supervisor.kept_process import describe_exit
from support.controller_harness import ControllerHarness, FakeChild, folder, running
from support.fakes import READY


def refuse(*_: object) -> None:
    raise OSError(24, "Too many open files")


def test_without_descriptors_for_links_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = ControllerHarness(folder(1))
    (frontend,) = harness.frontends
    harness.say(frontend, Started())
    with monkeypatch.context() as patch:
        patch.setattr(connections, "link_pair", refuse)
        harness.say(harness.workers[0], READY)
        number = harness.call(frontend, ListRegions())
        assert isinstance(harness.response(frontend, number), RegionList)
        harness.end(harness.workers[0])
        harness.wait(1.0)
        (worker,) = harness.workers
        assert worker.name.endswith(".2"), "it was restarted"
    harness.say(worker, READY)
    harness.happen(TimerDue())
    assert [message.worker for message in frontend.take(AttachWorker) if isinstance(message, AttachWorker)] == [
        worker.name
    ]


def test_without_descriptors_for_links_the_server_still_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = ControllerHarness(folder(1))
    (frontend,) = harness.frontends
    harness.say(frontend, Started())
    monkeypatch.setattr(connections, "link_pair", refuse)
    harness.say(harness.workers[0], READY)
    for _ in range(2):
        harness.happen(SignalReceived(signal.SIGINT))
    assert frontend.take(Stop)


def test_slots_that_cannot_be_sent_leave_no_descriptor_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    send = FakeChild.send

    def refuse_slots(child: FakeChild, message: Message, descriptors: Sequence[int] = ()) -> None:
        if isinstance(message, OpenQueue):
            refuse()
        send(child, message, descriptors)

    harness = ControllerHarness(folder(1))
    (frontend,) = harness.frontends
    harness.say(frontend, Started())
    with monkeypatch.context() as patch:
        patch.setattr(FakeChild, "send", refuse_slots)
        before = len(list(Path("/proc/self/fd").iterdir()))
        harness.say(harness.workers[0], READY)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    harness.happen(TimerDue())
    assert len(frontend.take(OpenQueue)) == 1


def test_a_signal_without_a_name_has_a_number() -> None:
    assert describe_exit(-signal.SIGSEGV) == "was ended by SIGSEGV"
    assert describe_exit(-(signal.SIGRTMIN + 1)) == f"was ended by signal {signal.SIGRTMIN + 1}"


def test_a_frontend_ended_by_a_real_time_signal_is_replaced_as_a_whole() -> None:
    harness = running(frontends=1)
    harness.end(harness.frontends[0], -(signal.SIGRTMIN + 1))
    harness.wait(1.0)
    (frontend,) = harness.frontends
    harness.say(frontend, Started())
    assert frontend.take(UpdateModel)
    assert frontend.take(UpdateReadiness)
    assert frontend.take(AttachWorker)


def test_a_process_that_gets_no_first_message_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(*_: object) -> None:
        raise ValueError("no JSON")

    with monkeypatch.context() as patch:
        patch.setattr(FakeChild, "send", send)
        harness = ControllerHarness(folder(1))
    assert all(child.killed for child in harness.launcher.children)


def test_a_response_that_cannot_be_sent_costs_no_other_call_its_response(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = running(frontends=1)
    (frontend,) = harness.frontends
    for number in (1, 2):
        call = Call(number=number, request=ListRegions())
        harness.controller.handle(MessageReceived(frontend.name, call))

    def send(*_: object) -> None:
        raise ValueError("too long")

    with monkeypatch.context() as patch:
        patch.setattr(FakeChild, "send", send)
        with pytest.raises(ValueError, match="too long"):
            harness.controller.reconcile()
    harness.controller.reconcile()
    assert harness.response(frontend, 2) == RegionList(regions=())


def region(key: str) -> Region:
    return Region(name="r", key=key, offset=0, byte_size=1)


def test_a_region_s_failure_is_that_of_its_own_registration() -> None:
    harness = running(frontends=2)
    client, other = harness.frontends
    first = harness.call(client, RegisterRegion(region=region("/k1")))
    harness.call(client, UnregisterRegion(name="r"))
    second = harness.call(client, RegisterRegion(region=region("/k2")))
    calls = [message for frontend in (client, other) for message in frontend.sent if isinstance(message, Call)]
    assert len(calls) == 6
    for frontend in (client, other):
        for call in frontend.take(Call):
            assert isinstance(call, Call)
            refused = isinstance(call.request, RegisterRegion) and call.request.region.key == "/k2"
            failure = Failure(status=Status.INVALID_ARGUMENT, message="cannot map /k2")
            harness.say(frontend, Reply(number=call.number, response=failure if refused else Done()))
    response = harness.response(client, second)
    assert isinstance(response, Failure)
    assert response.message == "cannot map /k2"
    assert not isinstance(harness.response(client, first), Failure)
