"""grpc.health.v1: Check and Watch, for the server, its services, and each model by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer
from typing_extensions import override

from repserve_server.errors import ModelNotFoundError
from repserve_server.protocols.grpc.context import Context
from repserve_server.protocols.grpc.status import answered

if TYPE_CHECKING:
    from repserve_server.dataplane.models import ModelTable

OVERALL = ""
CLASSIFICATION = "repserve.v1.Classification"
INFERENCE = "inference.GRPCInferenceService"
_SERVICES = (OVERALL, CLASSIFICATION, INFERENCE)

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(HealthServicer):  # type: ignore[misc] # it has no types
    """Reports the status of the models and of the server; nothing is serving once a shutdown has begun.

    The library's own servicer for asyncio wakes only one of the watchers of a service. Here each gets the newest status
    and nothing older: a slow one misses those in between, and costs no memory.
    """

    def __init__(self) -> None:
        self._statuses = dict.fromkeys(_SERVICES, _NOT_SERVING)
        self._changed = asyncio.Event()
        self._shutting_down = self._closed = False

    def update(self, models: ModelTable) -> None:
        """Report each model as it is now, and the server as the supervisor describes it."""
        serving = dict.fromkeys(_SERVICES, models.server_ready)
        for info in models.infos:
            serving[info.name] = serving.get(info.name, False) or info.ready
        up = not self._shutting_down
        self._publish({service: _SERVING if ready and up else _NOT_SERVING for service, ready in serving.items()})

    def go(self) -> None:
        """Report everything as not serving from now on."""
        self._shutting_down = True
        self._publish(dict.fromkeys(self._statuses, _NOT_SERVING))

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        self._wake()

    @override
    @answered
    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            raise ModelNotFoundError(f"there is no service or model {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    @override
    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        sent = None
        while not self._closed:
            changed = self._changed
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != sent:
                sent = status
                yield health_pb2.HealthCheckResponse(status=status)
            else:
                await changed.wait()

    def _publish(self, statuses: dict[str, health_pb2.HealthCheckResponse.ServingStatus]) -> None:
        if statuses != self._statuses:
            self._statuses = statuses
            self._wake()

    def _wake(self) -> None:
        """Release those who wait for the old event; the next ones wait for a new one."""
        self._changed.set()
        self._changed = asyncio.Event()
