"""A client that is slow to send its body holds nothing up, and not for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.recorder import Recorder
from repserve_server.protocols.http import body
from repserve_server.protocols.http.routes import RestRoutes
from repserve_server.protocols.http.server import create_application
from repserve_server.protocols.kserve.core import InferenceCore
from repserve_server.protocols.kserve.documents import IndexEntry
from support.queue_harness import run_async


class FakeCore:
    def index(self, *, ready_only: bool) -> list[IndexEntry]:
        return [] if ready_only else [{"name": "m", "version": "1", "state": "LOADING", "reason": "soon"}]

    def live(self) -> bool:
        raise ZeroDivisionError


async def connect() -> TestClient[web.Request, web.Application]:
    core = cast("InferenceCore", FakeCore())
    client = TestClient(TestServer(create_application(RestRoutes(core, Recorder(FrontendMetrics())).table())))
    await client.start_server()
    return client


def test_a_body_that_does_not_come_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(body, "BODY_SECONDS", 0.1)
        client = await connect()
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"}"), 10)
        assert b" 504 " in answer
        assert b"the body did not arrive within" in answer
        writer.close()
        response = await client.post("/v2/repository/index", data=json.dumps({"ready": False}))
        entries: list[dict[str, Any]] = await response.json()
        assert entries == [{"name": "m", "version": "1", "state": "LOADING", "reason": "soon"}]
        await client.close()

    run_async(test)


def test_a_failure_that_the_server_does_not_know_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        client = await connect()
        response = await client.get("/v2/health/live", headers={"X-Request-Id": "order-17"})
        expected = {"error": "internal error; look for request order-17 in the server's log"}
        assert (response.status, await response.json()) == (500, expected)
        assert "ZeroDivisionError" in caplog.text
        (record,) = caplog.records
        assert (record.__dict__["request_id"], record.__dict__["method"]) == ("order-17", "GET /v2/health/live")
        await client.close()

    run_async(test)
