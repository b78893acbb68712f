"""Calls of clients that concern the whole server: each waits for a state, and gets one response."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from repserve_server.channel.frontend_messages import (
    Retired,
    RetireRevision,
    StartFrontend,
)
from repserve_server.channel.message import CollectMetrics, MetricsReport, SetLogLevel
from repserve_server.channel.requests import (
    Call,
    ChangeLogLevel,
    CurrentLogLevel,
    Done,
    Failure,
    Figures,
    GetFigures,
    ListRegions,
    LoadModel,
    Region,
    RegionList,
    RegisterRegion,
    Reply,
    UnloadModel,
    UnregisterRegion,
)
from repserve_server.channel.worker_messages import LoadFailed
from repserve_server.errors import Status
from repserve_server.metrics import Family, Sample
from repserve_server.supervisor import calls
from repserve_server.supervisor.events import ModelScanned, ScrapeStarted
from support.controller_harness import ControllerHarness, FakeChild, folder, running
from support.fakes import READY
from support.queue_harness import run_async

REGION = Region("r", "/object", 0, 64)


def explicit(root: Path) -> ControllerHarness:
    (root / "digits").mkdir()
    return running(model_control_mode="explicit", model_repository=root)


def failure(response: object) -> Failure:
    assert isinstance(response, Failure)
    return response


def answer(harness: ControllerHarness, child: FakeChild, response: Done | Failure) -> None:
    """Let a frontend answer all calls that it has."""
    for call in child.take(Call):
        assert isinstance(call, Call)
        harness.say(child, Reply(number=call.number, response=response))


def test_a_region_is_opened_in_every_frontend_also_in_those_that_start_later() -> None:
    harness = running()
    first, second = harness.frontends
    number = harness.call(first, RegisterRegion(region=REGION))
    for child in (first, second):
        assert harness.response(first, number) is None
        (call,) = [message for message in child.sent if isinstance(message, Call)]
        assert call.request == RegisterRegion(region=REGION)
        answer(harness, child, Done())
    assert harness.response(first, number) == Done()
    harness.end(second)
    (started,) = harness.frontends[-1].take(StartFrontend)
    assert isinstance(started, StartFrontend)
    assert started.regions == (REGION,)
    assert harness.response(first, harness.call(first, ListRegions())) == RegionList(regions=(REGION,))
    again = failure(harness.response(first, harness.call(first, RegisterRegion(region=REGION))))
    assert again.status is Status.ALREADY_EXISTS
    number = harness.call(first, UnregisterRegion(name=""))
    (call,) = [message for message in first.sent if isinstance(message, Call)]
    assert call.request == UnregisterRegion(name="r")
    for child in harness.frontends:
        answer(harness, child, Done())
    assert harness.response(first, number) == Done()
    assert harness.response(first, harness.call(first, ListRegions())) == RegionList(regions=())


def test_a_region_that_one_frontend_cannot_open_is_kept_by_none() -> None:
    harness = running()
    first, second = harness.frontends
    number = harness.call(first, RegisterRegion(region=REGION))
    answer(harness, first, Done())
    answer(harness, second, Failure(status=Status.INVALID_ARGUMENT, message="no such object"))
    assert failure(harness.response(first, number)).message == "no such object"
    for child in (first, second):
        (call,) = [message for message in child.sent if isinstance(message, Call)]
        assert call.request == UnregisterRegion(name="r")
        answer(harness, child, Done())
    number = harness.call(first, RegisterRegion(region=REGION))
    for child in (first, second):
        answer(harness, child, Done())
    assert harness.response(first, number) == Done()


def test_a_call_waits_ten_seconds_for_a_silent_frontend_and_not_for_one_that_has_ended() -> None:
    harness = running()
    first, second = harness.frontends
    number = harness.call(first, RegisterRegion(region=REGION))
    answer(harness, first, Done())
    harness.end(second)
    assert harness.response(first, number) == Done()
    number = harness.call(first, UnregisterRegion(name="r"))
    harness.wait(10.0)
    assert failure(harness.response(first, number)).status is Status.UNAVAILABLE


def test_the_log_level_is_that_of_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    own: list[str] = []
    monkeypatch.setattr(calls, "set_log_level", own.append)
    harness = running()
    first, second = harness.frontends
    number = harness.call(first, ChangeLogLevel(level="error"))
    assert harness.response(first, number) == CurrentLogLevel(level="error")
    assert own == ["error"]
    for child in (first, second, *harness.workers):
        assert child.take(SetLogLevel) == [SetLogLevel(level="error")]
    assert harness.response(second, harness.call(second, ChangeLogLevel())) == CurrentLogLevel(level="error")


def test_figures_wait_for_the_counts_of_every_process_but_not_long() -> None:
    harness = running()
    first, second = harness.frontends
    harness.answer_metrics()
    number = harness.call(first, GetFigures(samples=("up",)))
    for child in (first, second):
        assert harness.response(first, number) is None
        child.take(CollectMetrics)
        family = Family("up", "gauge", "Up.", (Sample("up", {}, 2.0),))
        harness.say(child, MetricsReport(snapshot=(family,)))
    assert harness.response(first, number) is None
    harness.wait(0.0)
    figures = harness.response(first, number)
    assert isinstance(figures, Figures)
    assert figures.samples == (Sample("up", {}, 4.0),)
    number = harness.call(first, GetFigures(samples=("up",)))
    assert harness.response(first, number) is None
    assert harness.controller.next_due() - harness.clock.now == pytest.approx(0.5)
    harness.clock.advance(0.5)
    harness.controller.reconcile()
    assert isinstance(harness.response(first, number), Figures)


def test_a_scrape_waits_likewise() -> None:
    async def test() -> None:
        harness = running()
        harness.answer_metrics()
        counted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        harness.happen(ScrapeStarted(counted))
        assert not counted.done()
        harness.answer_metrics()
        assert counted.done()

    run_async(test)


def test_models_are_loaded_and_unloaded_when_a_client_wants_it(tmp_path: Path) -> None:
    harness = explicit(tmp_path)
    first, _ = harness.frontends
    unload = harness.call(first, UnloadModel(model="digits"))
    for child in harness.frontends:
        (message,) = child.take(RetireRevision)
        assert isinstance(message, RetireRevision)
        harness.say(child, Retired(revision=message.revision))
    assert harness.response(first, unload) is None, "its worker has not ended"
    harness.end(harness.workers[0], 0)
    assert harness.response(first, unload) == Done()
    assert harness.states() == [("", "unloaded")]
    load = harness.call(first, LoadModel(model="digits"))
    ((name, request),) = harness.reader.requests
    harness.happen(ModelScanned(request, folder(1, name=name)))
    assert harness.response(first, load) is None
    harness.say(harness.workers[0], READY)
    assert harness.response(first, load) == Done()


def test_a_load_that_fails_is_reported_to_its_caller(tmp_path: Path) -> None:
    harness = explicit(tmp_path)
    first, _ = harness.frontends
    for name in ("nothing", "", "..", "a/b"):
        response = harness.response(first, harness.call(first, LoadModel(model=name)))
        assert failure(response).status is Status.NOT_FOUND
    response = harness.response(first, harness.call(first, UnloadModel(model="nothing")))
    assert failure(response).status is Status.NOT_FOUND
    for found, message in ((None, "gone"), (folder((1, "new")), "version 1: torn")):
        number = harness.call(first, LoadModel(model="digits"))
        harness.happen(ModelScanned(harness.reader.requests[-1][1], found, "gone"))
        if found is not None:
            harness.say(harness.workers[-1], LoadFailed(reason="torn"))
            harness.end(harness.workers[-1], 1)
        assert message in failure(harness.response(first, number)).message
    assert harness.states()[0] == ("1", "ready"), "what was served still is"


def test_models_are_not_loaded_by_request_where_the_repository_is_followed() -> None:
    harness = running()
    first, _ = harness.frontends
    for request in (LoadModel(model="digits"), UnloadModel(model="digits")):
        response = failure(harness.response(first, harness.call(first, request)))
        assert response.status is Status.FAILED_PRECONDITION
        assert "model_control_mode is 'watch'" in response.message
