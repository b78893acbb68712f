"""HTTP for operators: what its paths answer, clients that are slow, and a port that is taken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest
from aiohttp import ClientResponse, ClientSession
from prometheus_client import CollectorRegistry, Counter

from repserve_server.supervisor import http
from repserve_server.supervisor.events import Event, ScrapeStarted
from repserve_server.supervisor.http import SLOW_CLIENT_SECONDS, OperatorServer
from repserve_server.supervisor.ports import PortTakenError
from support.queue_harness import run_async

HOST = "127.0.0.1"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class FakeStatus:
    """A server whose readiness a test sets; it counts 3 more images for each scrape, or none ever if ``busy``."""

    def __init__(self, images: Counter, *, busy: bool = False) -> None:
        self.ready, self.busy = True, busy
        self._images = images
        self.scrapes: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    def readiness(self) -> tuple[bool, str]:
        return self.ready, "ready" if self.ready else "draining"

    def emit(self, event: Event) -> None:
        assert isinstance(event, ScrapeStarted)
        self.scrapes.put_nowait(event.counted)
        if not self.busy:
            asyncio.get_running_loop().call_soon(self._count, event.counted)

    def _count(self, counted: asyncio.Future[None]) -> None:
        self._images.labels("m0").inc(3)
        counted.set_result(None)


def serve(
    test: Callable[[str, FakeStatus, int], Coroutine[None, None, None]],
    *,
    busy: bool = False,
    slow_client_seconds: float = SLOW_CLIENT_SECONDS,
    series: int = 1,
) -> None:
    """Run a test of a server: its URL, its status, its port."""

    async def run() -> None:
        registry = CollectorRegistry()
        images = Counter("images", "Images.", ["model"], registry=registry)
        for number in range(series):
            images.labels(f"m{number}")
        status = FakeStatus(images, busy=busy)
        server = OperatorServer(registry, status, status.emit, slow_client_seconds)
        port = await server.start(HOST, 0)
        try:
            await test(f"http://{HOST}:{port}", status, port)
        finally:
            await server.stop()

    run_async(run)


async def get(url: str, **headers: str) -> tuple[ClientResponse, str]:
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        return response, await response.text()


async def scrape_without_end(client: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, SCRAPE)


def test_health_is_that_of_the_status() -> None:
    async def test(url: str, status: FakeStatus, _port: int) -> None:
        for ready, code, text in ((True, 200, "ready\n"), (False, 503, "draining\n")):
            status.ready = ready
            response, body = await get(f"{url}/health/ready?verbose")
            assert (response.status, body) == (code, text)
            response, body = await get(f"{url}/health/live")
            assert (response.status, body, response.content_type) == (200, "live\n", "text/plain")

    serve(test)


def test_a_scrape_waits_for_the_counts_and_gets_the_format_it_accepts() -> None:
    async def test(url: str, _status: FakeStatus, _port: int) -> None:
        response, body = await get(f"{url}/metrics")
        assert 'images_total{model="m0"} 3.0' in body
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        response, body = await get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert 'images_total{model="m0"} 6.0' in body
        assert body.endswith("# EOF\n")

    serve(test)


def test_a_scrape_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SCRAPE_SECONDS", 0.01)

    async def test(url: str, _status: FakeStatus, _port: int) -> None:
        _, body = await get(f"{url}/metrics")
        assert 'images_total{model="m0"} 0.0' in body

    serve(test, busy=True)


def test_anything_else_is_not_found() -> None:
    async def test(url: str, _status: FakeStatus, _port: int) -> None:
        for path in ("/", "/metrics/", "/favicon.ico", "/health"):
            response, body = await get(url + path)
            assert (response.status, body.partition(";")[0]) == (404, "not found")

    serve(test)


def test_a_request_that_never_ends_holds_up_no_other_and_is_dropped() -> None:
    async def test(url: str, _status: FakeStatus, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: ")
        _, body = await get(f"{url}/health/live")
        assert body == "live\n"
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()

    serve(test, slow_client_seconds=0.2)


def test_a_client_that_never_reads_its_responses_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    async def test(url: str, _status: FakeStatus, port: int) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, (HOST, port))
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(scrape_without_end(client), 10)
        _, body = await get(f"{url}/health/live")
        assert body == "live\n"

    serve(test, slow_client_seconds=0.2, series=1000)
    assert caplog.text == ""


def test_a_client_that_leaves_during_its_scrape_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(url: str, status: FakeStatus, port: int) -> None:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.write(SCRAPE)
        counted = await asyncio.wait_for(status.scrapes.get(), 10)
        writer.transport.abort()
        await get(f"{url}/health/live")
        counted.set_result(None)
        await get(f"{url}/health/live")

    serve(test, busy=True)
    assert caplog.text == ""


def test_what_is_not_http_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test(_url: str, _status: FakeStatus, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 400 " in await asyncio.wait_for(reader.read(), 10)
        writer.close()

    serve(test)
    assert caplog.text == ""


def test_a_taken_port_is_named_with_its_flag() -> None:
    async def test() -> None:
        registry = CollectorRegistry()
        status = FakeStatus(Counter("images", "Images.", ["model"], registry=registry))
        with socket.socket() as other:
            other.bind((HOST, 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(PortTakenError, match=rf":{port}: .*--metrics-port"):
                await OperatorServer(registry, status, status.emit).start(HOST, port)

    run_async(test)
