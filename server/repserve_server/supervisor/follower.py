"""The follower: looks at the repository when it changes, and gives the catalogue what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Literal

from repserve_server.errors import RepositoryError
from repserve_server.repository.scan import ModelFolder, scan_repository
from repserve_server.repository.watch import SETTLE_SECONDS, Settling, changes

if TYPE_CHECKING:
    from repserve_server.settings import Settings
    from repserve_server.supervisor.catalogue import Catalogue

logger = logging.getLogger(__name__)


class Follower:
    """Keeps the catalogue in step with the folders, in the modes ``watch`` and ``poll``."""

    def __init__(self, settings: Settings, catalogue: Catalogue, first: list[ModelFolder]) -> None:
        self._settings, self._catalogue = settings, catalogue
        self._settling = Settling(time.monotonic)
        self._settling.trust(first)
        self._noticed = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; in the modes ``none`` and ``explicit`` there is nothing to do."""
        if self._settings.model_control_mode in ("none", "explicit"):
            return
        noticing = asyncio.create_task(self._notice())
        try:
            waiting = False
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._noticed.wait(), SETTLE_SECONDS if waiting else None)
                self._noticed.clear()
                waiting = await self._look()
        finally:
            noticing.cancel()

    async def _notice(self) -> None:
        root, seconds = self._settings.model_repository, self._settings.repository_poll_seconds
        mode: Literal["poll", "watch"] = "poll" if self._settings.model_control_mode == "poll" else "watch"
        async for _ in changes(root, mode, seconds):
            self._noticed.set()

    async def _look(self) -> bool:
        try:
            found = await asyncio.to_thread(scan_repository, self._settings.model_repository)
        except (OSError, RepositoryError) as error:
            logger.warning("the model repository cannot be read, what is loaded stays: %s", error)
            return False
        folders, waiting = self._settling.sift(choose_models(found, self._settings))
        self._catalogue.take(folders)
        return waiting


def held_at_start(folders: list[ModelFolder], settings: Settings) -> list[str]:
    """The models that are known but not loaded before they are asked for: in the mode ``explicit``, those not named."""
    if settings.model_control_mode != "explicit" or not settings.model:
        return []
    return [folder.name for folder in folders if folder.name not in settings.model]


def choose_models(folders: list[ModelFolder], settings: Settings) -> list[ModelFolder]:
    """Those that the server may serve: all, or the ones that its settings name."""
    every = not settings.model or settings.model_control_mode == "explicit"
    return [folder for folder in folders if every or folder.name in settings.model]
