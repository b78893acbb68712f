"""Reading the model repository: at the start, when it changes, and when a client wants a model loaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from repserve_server.errors import RepositoryError
from repserve_server.repository.scan import ModelFolder, scan_model, scan_repository
from repserve_server.repository.watch import SETTLE_SECONDS, Settling, changes
from repserve_server.supervisor.events import Event, ModelScanned, RepositoryScanned

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_server.settings import Settings

logger = logging.getLogger(__name__)


class NothingToServeError(Exception):
    """No model of the repository can be served."""


def read_repository(settings: Settings) -> list[ModelFolder]:
    """Choose the models that the server may serve.

    Raises:
        NothingToServeError: there is none, or one is missing that the settings name.
        RepositoryError: the repository cannot be read.
    """
    folders = scan_repository(settings.model_repository)
    missing = set(settings.model) - {folder.name for folder in folders}
    if missing or not folders:
        names = ", ".join(folder.name for folder in folders) or "no models"
        asked = f"has no model {', '.join(sorted(missing))}; " if missing else ""
        raise NothingToServeError(f"{settings.model_repository} {asked}it has {names}")
    return _choose_models(folders, settings)


def held_at_start(folders: Sequence[ModelFolder], settings: Settings) -> list[str]:
    """Return the models that load on request only: in the mode ``explicit``, those that the settings do not name."""
    if settings.model_control_mode != "explicit" or not settings.model:
        return []
    return [folder.name for folder in folders if folder.name not in settings.model]


class RepositoryReader:
    """Reads models' folders in threads, for clients who want them loaded."""

    def __init__(self, root: Path, emit: Callable[[Event], None]) -> None:
        self._root, self._emit = root, emit
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, name: str, request: int) -> None:
        """Read a model's folder; the event ``ModelScanned`` has the result."""
        task = asyncio.get_running_loop().create_task(self._read(name, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, name: str, request: int) -> None:
        try:
            folder = await asyncio.to_thread(scan_model, self._root / name)
        except (OSError, RepositoryError) as error:
            self._emit(ModelScanned(request, None, str(error)))
        except Exception:
            logger.exception("the folder of model %r cannot be read", name)
            self._emit(ModelScanned(request, None, f"the folder of model {name!r} cannot be read; see the log"))
        else:
            self._emit(ModelScanned(request, folder))


class Follower:
    """Emits what the repository holds whenever it has changed, in the modes ``watch`` and ``poll``."""

    def __init__(self, settings: Settings, emit: Callable[[Event], None]) -> None:
        self._settings, self._emit = settings, emit
        self._settling = Settling(time.monotonic)
        self._noticed = asyncio.Event()

    async def run(self, first: Sequence[ModelFolder]) -> None:
        """Follow until cancelled; in the modes ``none`` and ``explicit`` there is nothing to do.

        Args:
            first: what the repository held at the start.
        """
        if self._settings.model_control_mode in ("none", "explicit"):
            return
        self._settling.trust(first)
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
        folders, waiting = self._settling.sift(_choose_models(found, self._settings))
        self._emit(RepositoryScanned(tuple(folders)))
        return waiting


def _choose_models(folders: list[ModelFolder], settings: Settings) -> list[ModelFolder]:
    """Those that the server may serve: all, or the ones that its settings name."""
    every = not settings.model or settings.model_control_mode == "explicit"
    return [folder for folder in folders if every or folder.name in settings.model]
