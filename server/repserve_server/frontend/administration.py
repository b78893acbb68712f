"""Administration by calls to the supervisor: what it answers holds for every frontend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from repserve_server.logs import LogLevel

if TYPE_CHECKING:
    from repserve_server.channel.calls import Peer

CALL_SECONDS = 15.0
"""For what the supervisor and the other frontends do at once."""


class RemoteAdministration:
    """``Administration`` as a frontend has it.

    Loading and unloading may take as long as they take: a large model, or requests that are answered first. Whoever
    asked may stop waiting; the supervisor goes on.
    """

    def __init__(self, supervisor: Peer, load_timeout_seconds: float) -> None:
        self._supervisor = supervisor
        self._load_timeout_seconds = load_timeout_seconds

    async def load(self, model: str) -> None:
        """See ``Administration.load``."""
        await self._supervisor.call(LoadModel(model=model), self._load_timeout_seconds)

    async def unload(self, model: str) -> None:
        """See ``Administration.unload``."""
        await self._supervisor.call(UnloadModel(model=model), self._load_timeout_seconds)

    async def figures(self, samples: Sequence[str]) -> Figures:
        """See ``Administration.figures``."""
        return await self._supervisor.call(GetFigures(samples=tuple(samples)), CALL_SECONDS)

    async def register_region(self, region: Region) -> None:
        """See ``Administration.register_region``."""
        await self._supervisor.call(RegisterRegion(region=region), CALL_SECONDS)

    async def unregister_region(self, name: str) -> None:
        """See ``Administration.unregister_region``."""
        await self._supervisor.call(UnregisterRegion(name=name), CALL_SECONDS)

    async def regions(self) -> Sequence[Region]:
        """See ``Administration.regions``."""
        return (await self._supervisor.call(ListRegions(), CALL_SECONDS)).regions

    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        """See ``Administration.log_level``."""
        return (await self._supervisor.call(ChangeLogLevel(level=level), CALL_SECONDS)).level
