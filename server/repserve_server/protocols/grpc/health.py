"""grpc.health.v1: Check and Watch, for the server, its services, and each model by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer

if TYPE_CHECKING:
    from repserve_server.dataplane.models import ModelTable
    from repserve_server.protocols.grpc.calls import Context

OVERALL = ""
CLASSIFICATION = "repserve.v1.Classification"
INFERENCE = "inference.GRPCInferenceService"
_SERVICES = (OVERALL, CLASSIFICATION, INFERENCE)

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(HealthServicer):  # type: ignore[misc] # it has no types
    """Kept in step with the models, and not serving from the moment on in which the server begins to go.

    The library's own servicer for asyncio wakes only one of the watchers of a service. Here each has the newest status
    and nothing older: a slow one misses what was true in between, and costs no memory.
    """

    def __init__(self) -> None:
        self._statuses = dict.fromkeys(_SERVICES, _NOT_SERVING)
        self._changed = asyncio.Event()
        self._going = self._closed = False

    def update(self, models: ModelTable) -> None:
        """Say for each model whether it answers, and for the server what the supervisor says."""
        serving = dict.fromkeys(_SERVICES, models.server_ready)
        for info in models.infos:
            serving[info.name] = serving.get(info.name, False) or info.ready
        self._say({service: _SERVING if up and not self._going else _NOT_SERVING for service, up in serving.items()})

    def go(self) -> None:
        """Say "not serving" for everything from now on."""
        self._going = True
        self._say(dict.fromkeys(self._statuses, _NOT_SERVING))

    def close(self) -> None:
        """End every watch: the server stops."""
        self._closed = True
        self._wake()

    async def Check(  # noqa: N802 - the names are those of the RPCs
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status of a service now."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service or model {request.service!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a service now, and each time it changes."""
        said = None
        while not self._closed:
            changed = self._changed
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != said:
                said = status
                yield health_pb2.HealthCheckResponse(status=status)
            else:
                await changed.wait()

    def _say(self, statuses: dict[str, health_pb2.HealthCheckResponse.ServingStatus]) -> None:
        if statuses != self._statuses:
            self._statuses = statuses
            self._wake()

    def _wake(self) -> None:
        """Whoever waits for the old event goes on; the next ones wait for the new one."""
        self._changed.set()
        self._changed = asyncio.Event()
