"""What frontends may ask the supervisor: the same answer whichever of them asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from repserve_server.channel.requests import (
    AnyRequest,
    AnyResponse,
    ChangeLogLevel,
    CloseRegion,
    CurrentLogLevel,
    Done,
    Figures,
    GetFigures,
    ListRegions,
    LoadModel,
    OpenRegion,
    RegionList,
    RegisterRegion,
    UnloadModel,
    UnregisterRegion,
)
from repserve_server.errors import ModelNotFoundError, NotAllowedError, RepositoryError
from repserve_server.repository.scan import scan_model

if TYPE_CHECKING:
    from repserve_server.settings import Settings
    from repserve_server.supervisor.catalogue import Catalogue
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.metrics import ServerMetrics
    from repserve_server.supervisor.regions import RegionTable

logger = logging.getLogger(__name__)


class Questions:
    """Answers them; ``refresh`` brings the counts of all processes into ``metrics``."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        regions: RegionTable,
        fleet: Fleet,
        *,
        metrics: ServerMetrics,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._settings, self._catalogue, self._regions, self._fleet = settings, catalogue, regions, fleet
        self._metrics, self._refresh = metrics, refresh

    async def handle(self, request: AnyRequest) -> AnyResponse:
        """Answer a frontend's request."""
        match request:
            case LoadModel():
                await self._load(request.model)
            case UnloadModel():
                self._check_explicit("unload")
                logger.info("model %r is to be unloaded, by request", request.model)
                await self._catalogue.unload(request.model)
            case RegisterRegion():
                await self._regions.register(request.region)
            case UnregisterRegion():
                await self._regions.unregister(request.name)
            case ListRegions():
                return RegionList(regions=tuple(self._regions.regions))
            case ChangeLogLevel():
                if request.level is not None:
                    self._fleet.set_log_level(request.level)
                return CurrentLogLevel(level=self._fleet.log_level)
            case GetFigures():
                await self._refresh()
                samples = tuple(self._metrics.children.samples(request.samples))
                mode = self._settings.model_control_mode
                return Figures(seconds=time.monotonic(), model_control_mode=mode, samples=samples)
            case OpenRegion() | CloseRegion():
                raise TypeError(f"the supervisor does not answer {type(request).__name__}")
        return Done()

    async def _load(self, name: str) -> None:
        self._check_explicit("load")
        root = self._settings.model_repository
        if name in ("", ".", "..") or "/" in name or "\0" in name or not (root / name).is_dir():
            raise ModelNotFoundError(f"the model repository has no folder {name!r}")
        try:
            folder = await asyncio.to_thread(scan_model, root / name)
        except RepositoryError as error:
            raise ModelNotFoundError(str(error)) from error
        logger.info("model %r is to be loaded, by request", name)
        await self._catalogue.load(folder)

    def _check_explicit(self, what: str) -> None:
        mode = self._settings.model_control_mode
        if mode != "explicit":
            raise NotAllowedError(
                f"models cannot be {what}ed by request when model_control_mode is {mode!r}; change the repository's "
                "folders, or start the server with --model-control-mode explicit"
            )
