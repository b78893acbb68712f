"""grpc.health.v1: every watcher learns of every change, and only of the newest state."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2

from repserve_server.channel.model_info import ModelInfo, ModelState
from repserve_server.dataplane.models import ModelTable
from repserve_server.protocols.grpc.health import CLASSIFICATION, INFERENCE, OVERALL, Health
from support.queue_harness import run_async, settle

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class FakeContext:
    async def abort(self, code: grpc.StatusCode, message: str, metadata: object) -> NoReturn:
        raise AssertionError(f"{code}: {message} {metadata}")


def table(*models: tuple[str, str, ModelState], ready: bool = True) -> ModelTable:
    made = ModelTable()
    made.update([ModelInfo(name, version, state, "") for name, version, state in models])
    made.server_ready = ready
    return made


async def check(health: Health, service: str) -> Any:  # noqa: ANN401 - the library has no types
    return (await health.Check(health_pb2.HealthCheckRequest(service=service), FakeContext())).status


class Watcher:
    """A client that watches, and keeps every status."""

    def __init__(self, health: Health, service: str) -> None:
        self.statuses: list[Any] = []
        self._stream = health.Watch(health_pb2.HealthCheckRequest(service=service), FakeContext())
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for response in self._stream:
            self.statuses.append(response.status)


def test_nothing_serves_before_the_supervisor_says_so() -> None:
    async def test() -> None:
        health = Health()
        for service in (OVERALL, CLASSIFICATION, INFERENCE):
            assert await check(health, service) == NOT_SERVING
        health.update(table(("a", "1", "ready"), ready=False))
        assert await check(health, OVERALL) == NOT_SERVING
        assert await check(health, "a") == SERVING

    run_async(test)


def test_a_model_serves_as_long_as_one_of_its_versions_does() -> None:
    async def test() -> None:
        health = Health()
        health.update(table(("a", "1", "ready"), ("a", "2", "loading"), ("b", "1", "restarting")))
        assert [await check(health, service) for service in ("a", "b", OVERALL)] == [SERVING, NOT_SERVING, SERVING]

    run_async(test)


def test_an_unknown_name_is_not_found() -> None:
    async def test() -> None:
        with pytest.raises(AssertionError, match="NOT_FOUND: there is no service or model 'nothing'"):
            await check(Health(), "nothing")

    run_async(test)


def test_every_watcher_learns_of_every_change() -> None:
    async def test() -> None:
        health = Health()
        watchers = [Watcher(health, "a") for _ in range(3)]
        await settle()
        for state in ("loading", "ready", "restarting", "ready"):
            health.update(table(("a", "1", state)))
            await settle()
        health.go()
        await settle()
        for watcher in watchers:
            assert watcher.statuses == [UNKNOWN, NOT_SERVING, SERVING, NOT_SERVING, SERVING, NOT_SERVING]
            watcher.task.cancel()

    run_async(test)


def test_a_watcher_is_not_told_what_it_knows_and_may_miss_what_is_over() -> None:
    async def test() -> None:
        health = Health()
        health.update(table(("a", "1", "ready")))
        watcher = Watcher(health, "a")
        await settle()
        health.update(table(("a", "1", "ready"), ("b", "1", "loading")))
        await settle()
        health.update(table(("a", "1", "restarting")))
        health.update(table(("a", "1", "ready")))
        await settle()
        assert watcher.statuses == [SERVING]
        watcher.task.cancel()

    run_async(test)


def test_nothing_serves_again_once_the_server_goes() -> None:
    async def test() -> None:
        health = Health()
        health.update(table(("a", "1", "ready")))
        health.go()
        health.update(table(("a", "1", "ready"), ("b", "1", "ready")))
        for service in (OVERALL, INFERENCE, "a", "b"):
            assert await check(health, service) == NOT_SERVING

    run_async(test)


def test_watches_end_with_the_server() -> None:
    async def test() -> None:
        health = Health()
        watcher = Watcher(health, OVERALL)
        await settle()
        health.close()
        await asyncio.wait_for(watcher.task, 5)

    run_async(test)
