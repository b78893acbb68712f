"""HTTP for operators: /metrics for Prometheus, /health/live and /health/ready for load balancers."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

from repserve_server.supervisor.ports import PortTakenError, join_address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

SLOW_CLIENT_SECONDS = 10.0


class OperatorServer:
    """Answers in threads of its own, so that a slow scrape holds up nothing."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        refresh: Callable[[], None],
        is_ready: Callable[[], tuple[bool, str]],
    ) -> None:
        class Handler(_Handler):
            pass

        Handler.registry, Handler.refresh, Handler.is_ready = (
            registry,
            staticmethod(refresh),
            staticmethod(is_ready),
        )
        try:
            self._server = (_ServerV6 if ":" in host else _Server)((host, port), Handler)
        except OSError as error:
            raise PortTakenError(
                f"cannot listen on {join_address(host, port)}: {error.strerror}; is another server running? "
                "Choose another port with --metrics-port"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="operator-http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's
        """A client that went away is no news; anything else is logged."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.error("a request to the metrics port failed", exc_info=error)


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    refresh: Callable[[], None]
    is_ready: Callable[[], tuple[bool, str]]
    timeout = SLOW_CLIENT_SECONDS
    server_version = "RepServe"

    def do_GET(self) -> None:
        """Answer a GET."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self.refresh()
            encode, content_type = choose_encoder(self.headers.get("Accept") or "")
            self._reply(200, encode(self.registry), content_type)
        elif path == "/health/live":
            self._reply(200, b"live\n")
        elif path == "/health/ready":
            ready, text = self.is_ready()
            self._reply(200 if ready else 503, f"{text}\n".encode())
        else:
            self._reply(404, b"not found; this port has /metrics, /health/live and /health/ready\n")

    def _reply(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests to this port are not logged."""
