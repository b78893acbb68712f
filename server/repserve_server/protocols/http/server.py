"""The HTTP server of a frontend: routes, limits, and errors as JSON."""

from __future__ import annotations

import logging
import math
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from repserve_server.errors import RepServeError, Status
from repserve_server.protocols.console.page import PageRoutes
from repserve_server.protocols.failures import report
from repserve_server.protocols.http.openapi import describe_routes
from repserve_server.protocols.http.routes import MAX_BODY_BYTES, OWN_ID, RestRoutes, headers_of

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder
    from repserve_server.protocols.http.routes import Handler
    from repserve_server.protocols.kserve.core import InferenceCore

KEEP_ALIVE_SECONDS = 75.0
STOP_SECONDS = 2.0
OPENAPI_PATH = "/openapi.json"

_REFUSED: web.AppKey[set[str]] = web.AppKey("refused", set)
"""Origins whose requests were refused, each of which is logged once."""
_MOST_REFUSED, _LONGEST_ORIGIN = 100, 200
_DEFAULT_PORTS = {"http": 80, "https": 443}

logger = logging.getLogger(__name__)


class RestServer:
    """Listens beside the other frontends on one port; the kernel spreads connections over them."""

    def __init__(self, core: InferenceCore, recorder: Recorder) -> None:
        self._routes = RestRoutes(core, recorder)
        self._page = PageRoutes(core)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be bound.
        """
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        application = create_application(self._routes, self._page)
        self._runner = web.AppRunner(
            application,
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


def create_application(routes: RestRoutes, page: PageRoutes) -> web.Application:
    """All routes, the OpenAPI document that describes those of the protocol, and the page."""
    application = web.Application(middlewares=[_answer_errors, _refuse_other_sites], client_max_size=MAX_BODY_BYTES)
    application[_REFUSED] = set()
    table = routes.table()
    document = describe_routes([(method, path) for method, path, _ in table])

    async def openapi(_: web.Request) -> web.Response:
        return web.json_response(document)

    for method, path, handler in [*table, ("GET", OPENAPI_PATH, openapi), *page.table()]:
        application.router.add_route(method, path, handler)
    return application


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is ``{"error": "..."}`` with the status of the one table in ``errors``."""
    try:
        return await handler(request)
    except RepServeError as error:
        return _to_response(_report(request, error))
    except web.HTTPException as error:
        text = {
            404: f"there is nothing at {request.path}; {OPENAPI_PATH} has what there is",
            405: f"{request.path} does not take {request.method}",
        }.get(error.status, error.reason)
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return web.json_response({"error": text}, status=error.status, headers=headers)
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:  # noqa: BLE001 - reported
        return _to_response(_report(request, error))


@web.middleware
async def _refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site has a browser send: whoever opens it must not unload models by that.

    Browsers say where a request comes from, in Sec-Fetch-Site or at least in Origin; other clients say neither. Against
    a name that is made to point here (DNS rebinding) it does not help: that takes a proxy that checks Host.
    """
    if request.method not in ("GET", "HEAD") and not _is_own(request):
        origin = request.headers.get("Origin", "another site")[:_LONGEST_ORIGIN]
        refused: set[str] = request.app[_REFUSED]
        if origin not in refused and len(refused) < _MOST_REFUSED:
            refused.add(origin)
            logger.warning("what pages of %s send is refused; a proxy before this server must pass Host on", origin)
        raise web.HTTPForbidden(reason=f"a page of {origin!r} may not send {request.method} to {request.host!r}")
    return await handler(request)


def _is_own(request: web.Request) -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site:
        return site in ("same-origin", "none")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
        asked = urlsplit(f"{parts.scheme}://{request.headers.get('X-Forwarded-Host', request.host)}")
        return host is not None and (host, port) == (asked.hostname, asked.port or _DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        return False


def _is_ours(record: logging.LogRecord) -> bool:
    """What is not HTTP is answered with 400; it is no failure of the server's."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _report(request: web.Request, error: Exception) -> RepServeError:
    return report(
        error,
        f"{request.method} {request.raw_path}",
        lambda: headers_of(request),
        request.get(OWN_ID, ""),
    )


def _to_response(error: RepServeError) -> web.Response:
    headers = {}
    if error.retry_after is not None:
        # Whole seconds, as HTTP has it (RFC 9110, 10.2.3), and the exact time for clients of ours.
        headers["Retry-After"] = str(math.ceil(error.retry_after))
        headers["Retry-After-Ms"] = str(math.ceil(error.retry_after * 1000))
    response = web.json_response({"error": error.message}, status=error.http_status, headers=headers)
    if error.status is Status.UNAVAILABLE:
        response.force_close()
    return response
