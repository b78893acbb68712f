"""The HTTP server of a frontend: limits, and errors as JSON."""

from __future__ import annotations

import logging
import math
import socket
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from repserve_server.errors import RepServeError, Status
from repserve_server.protocols.failures import report
from repserve_server.protocols.http.body import MAX_BODY_BYTES
from repserve_server.protocols.http.origin import REFUSED, refuse_other_sites
from repserve_server.protocols.http.routing import OPENAPI_PATH, OWN_ID, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from repserve_server.protocols.http.routing import Handler, Route

KEEP_ALIVE_SECONDS = 75.0
STOP_SECONDS = 2.0


class HttpServer:
    """Listens beside the other frontends on one port; the kernel spreads connections over them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = routes
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be bound.
        """
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        self._runner = web.AppRunner(
            create_application(self._routes),
            access_log=None,
            # A client that goes away cancels its request, which then leaves the queue.
            handler_cancellation=True,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=STOP_SECONDS,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_port=True, backlog=socket.SOMAXCONN).start()

    async def stop(self) -> None:
        """Stop listening, and let the last answers leave."""
        if self._runner is not None:
            await self._runner.cleanup()


def create_application(routes: Iterable[Route]) -> web.Application:
    """Create the application that answers on these routes."""
    application = web.Application(middlewares=[_answer_errors, refuse_other_sites], client_max_size=MAX_BODY_BYTES)
    application[REFUSED] = set()
    for method, path, handler in routes:
        application.router.add_route(method, path, handler)
    return application


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as ``{"error": "..."}``, with the status of the one table in ``errors``."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        text = {
            404: f"there is nothing at {request.path}; see {OPENAPI_PATH} for the paths",
            405: f"{request.path} does not accept {request.method}; see {OPENAPI_PATH}",
        }.get(error.status, error.reason)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response({"error": text}, status=error.status, headers=headers)
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - reported
        method = f"{request.method} {request.raw_path}"
        return _to_response(report(error, method, lambda: headers_of(request), request.get(OWN_ID, "")))


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a failure is the server's: what is not HTTP is answered with 400 and not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _to_response(error: RepServeError) -> web.Response:
    headers = {}
    if error.retry_after is not None:
        # Whole seconds, as HTTP has it (RFC 9110, 10.2.3), and the exact time for our own clients.
        headers["Retry-After"] = str(math.ceil(error.retry_after))
        headers["Retry-After-Ms"] = str(math.ceil(error.retry_after * 1000))
    response = web.json_response({"error": error.message}, status=error.http_status, headers=headers)
    if error.status is Status.UNAVAILABLE:
        response.force_close()
    return response
