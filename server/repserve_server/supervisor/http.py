"""HTTP for operators: /metrics for Prometheus, /health/live and /health/ready for load balancers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client.exposition import choose_encoder

from repserve_server.supervisor.events import Event, ScrapeStarted
from repserve_server.supervisor.ports import PortTakenError, join_address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SLOW_CLIENT_SECONDS = 10.0
"""How long a client may leave its connection idle, and take to send a request or to read a response."""
SCRAPE_SECONDS = 1.0
"""How long a scrape waits for the processes' counts at most; it should be over sooner."""
STOP_SECONDS = 1.0
_HEADERS = {"Server": "RepServe"}


class Status(Protocol):
    """What is known of the server."""

    def readiness(self) -> tuple[bool, str]:
        """Whether the server is ready, and why not."""
        ...


class OperatorServer:
    """Answers operators on the supervisor's event loop.

    Args:
        registry: what /metrics shows.
        status: the server's readiness.
        emit: takes the event that a scrape has begun.
        slow_client_seconds: after which a slow client is disconnected.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        status: Status,
        emit: Callable[[Event], None],
        slow_client_seconds: float = SLOW_CLIENT_SECONDS,
    ) -> None:
        self._registry, self._status, self._emit = registry, status, emit
        self._slow_client_seconds = slow_client_seconds
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Begin to answer; returns the port.

        Raises:
            PortTakenError: the port is taken, or the address is not this machine's.
        """
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        version6 = ":" in host
        try:
            listener = socket.create_server(
                (host, port),
                family=socket.AF_INET6 if version6 else socket.AF_INET,
                backlog=socket.SOMAXCONN,
                dualstack_ipv6=version6 and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            raise PortTakenError(
                f"cannot listen on {join_address(host, port)}: {error.strerror}; is another server running? "
                "Choose another port with --metrics-port"
            ) from error
        application = web.Application(middlewares=[self._send])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/health/live", self._live)
        application.router.add_get("/health/ready", self._ready)
        application.router.add_route("*", "/{path:.*}", self._nothing)
        self._runner = web.AppRunner(
            application, access_log=None, keepalive_timeout=self._slow_client_seconds, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stop answering and free the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _send(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Send the response here: aiohttp itself would wait without limit for a client that does not read."""
        response = await handler(request)
        try:
            async with asyncio.timeout(self._slow_client_seconds):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _metrics(self, request: web.Request) -> web.Response:
        counted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._emit(ScrapeStarted(counted))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(counted, SCRAPE_SECONDS)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={**_HEADERS, "Content-Type": content_type})

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="live\n", headers=_HEADERS)

    async def _ready(self, _: web.Request) -> web.Response:
        ready, text = self._status.readiness()
        return web.Response(status=200 if ready else 503, text=f"{text}\n", headers=_HEADERS)

    async def _nothing(self, _: web.Request) -> web.Response:
        text = "not found; this port has /metrics, /health/live and /health/ready\n"
        return web.Response(status=404, text=text, headers=_HEADERS)


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out of the log what is not HTTP: it is answered with 400, and no failure of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
