"""What frontends may ask the supervisor: the same answer whichever of them asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from repserve_server.channel.dialogue import Answerer
from repserve_server.dataplane.administration import Region
from repserve_server.errors import ModelNotFoundError, NotAllowedError, RepositoryError
from repserve_server.repository.scan import scan_model

if TYPE_CHECKING:
    from repserve_server.settings import Settings
    from repserve_server.supervisor.catalogue import Catalogue
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.metrics import ServerMetrics
    from repserve_server.supervisor.regions import RegionTable

logger = logging.getLogger(__name__)

Body = dict[str, Any]


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

    @property
    def answerers(self) -> Mapping[str, Answerer]:
        """By the name of the question."""
        return {
            "load": self._load,
            "unload": self._unload,
            "register_region": self._register_region,
            "unregister_region": self._unregister_region,
            "regions": self._list_regions,
            "log_level": self._log_level,
            "figures": self._figures,
        }

    async def _load(self, body: Body) -> Body:
        self._check_explicit("load")
        name = str(body["model"])
        root = self._settings.model_repository
        if name in ("", ".", "..") or "/" in name or "\0" in name or not (root / name).is_dir():
            raise ModelNotFoundError(f"the model repository has no folder {name!r}")
        try:
            folder = await asyncio.to_thread(scan_model, root / name)
        except RepositoryError as error:
            raise ModelNotFoundError(str(error)) from error
        logger.info("model %r is to be loaded, by request", name)
        await self._catalogue.load(folder)
        return {}

    async def _unload(self, body: Body) -> Body:
        self._check_explicit("unload")
        logger.info("model %r is to be unloaded, by request", str(body["model"]))
        await self._catalogue.unload(str(body["model"]))
        return {}

    async def _register_region(self, body: Body) -> Body:
        await self._regions.register(Region(**body))
        return {}

    async def _unregister_region(self, body: Body) -> Body:
        await self._regions.unregister(str(body["name"]))
        return {}

    async def _list_regions(self, _: Body) -> Body:
        return {"regions": [asdict(region) for region in self._regions.regions]}

    async def _log_level(self, body: Body) -> Body:
        if body["level"] is not None:
            self._fleet.set_log_level(str(body["level"]))
        return {"level": self._fleet.log_level}

    async def _figures(self, body: Body) -> Body:
        await self._refresh()
        samples = [list(sample) for sample in self._metrics.children.samples(body["samples"])]
        return {
            "seconds": time.monotonic(),
            "model_control_mode": self._settings.model_control_mode,
            "samples": samples,
        }

    def _check_explicit(self, what: str) -> None:
        mode = self._settings.model_control_mode
        if mode != "explicit":
            raise NotAllowedError(
                f"models cannot be {what}ed by request when model_control_mode is {mode!r}; change the repository's "
                "folders, or start the server with --model-control-mode explicit"
            )
