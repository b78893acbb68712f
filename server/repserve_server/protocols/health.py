"""grpc.health.v1, Check and Watch, for the server as a whole, for the service, and for each model by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2

if TYPE_CHECKING:
    from repserve_server.dataplane.models import ModelTable

OVERALL = ""
CLASSIFICATION = "repserve.v1.Classification"
INFERENCE = "inference.GRPCInferenceService"


class Health:
    """What the health service says: kept in step with the models, and not serving as soon as a drain begins."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._said: dict[str, bool] = {}
        self._draining = False

    async def update(self, models: ModelTable) -> None:
        """Say for each model whether it answers, and for the server what the supervisor says."""
        ready = {info.name: False for info in models.infos}
        for info in models.infos:
            ready[info.name] |= info.ready
        ready[OVERALL] = ready[CLASSIFICATION] = ready[INFERENCE] = models.server_ready
        for service, serving in ready.items():
            await self._say(service, serving)

    async def drain(self) -> None:
        """Say "not serving" for everything from now on."""
        self._draining = True
        for service in (OVERALL, CLASSIFICATION, INFERENCE, *self._said):
            await self._say(service, False)

    async def _say(self, service: str, serving: bool) -> None:
        serving = serving and not self._draining
        if self._said.get(service) is serving:
            return
        self._said[service] = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.servicer.set(service, status)
