"""Administration by calls to the supervisor: what it answers holds for every frontend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from repserve_server.channel.requests import (
    ChangeLogLevel,
    Figures,
    GetFigures,
    ListRegions,
    LoadModel,
    Region,
    RegisterRegion,
    UnloadModel,
    UnregisterRegion,
)
from repserve_server.dataplane.administration import Administration
from repserve_server.logs import LogLevel

if TYPE_CHECKING:
    from repserve_server.channel.calls import Caller

CALL_SECONDS = 15.0
"""For what the supervisor and the other frontends do at once."""


class RemoteAdministration(Administration):
    """``Administration`` as a frontend has it.

    Loading and unloading may take as long as they take: a large model, or requests that are answered first. The
    client may stop waiting; the supervisor continues.
    """

    def __init__(self, supervisor: Caller, load_timeout_seconds: float) -> None:
        self._supervisor = supervisor
        self._load_timeout_seconds = load_timeout_seconds

    @override
    async def load(self, model: str) -> None:
        await self._supervisor.call(LoadModel(model=model), self._load_timeout_seconds)

    @override
    async def unload(self, model: str) -> None:
        await self._supervisor.call(UnloadModel(model=model), self._load_timeout_seconds)

    @override
    async def figures(self, samples: Sequence[str]) -> Figures:
        return await self._supervisor.call(GetFigures(samples=tuple(samples)), CALL_SECONDS)

    @override
    async def register_region(self, region: Region) -> None:
        await self._supervisor.call(RegisterRegion(region=region), CALL_SECONDS)

    @override
    async def unregister_region(self, name: str) -> None:
        await self._supervisor.call(UnregisterRegion(name=name), CALL_SECONDS)

    @override
    async def regions(self) -> Sequence[Region]:
        return (await self._supervisor.call(ListRegions(), CALL_SECONDS)).regions

    @override
    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        return (await self._supervisor.call(ChangeLogLevel(level=level), CALL_SECONDS)).level
