"""The catalogue: what the repository holds, which versions of it are served, and how one takes over from another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from repserve_server.channel.model_info import ModelInfo, ModelState
from repserve_server.errors import ModelLoadError, ModelNotFoundError
from repserve_server.supervisor.models import ModelVersion

if TYPE_CHECKING:
    from repserve_server.repository.scan import ModelFolder, VersionFolder
    from repserve_server.settings import Settings
    from repserve_server.supervisor.fleet import Fleet

logger = logging.getLogger(__name__)

_SERVED = ("ready", "restarting")
"""States in which a version takes requests."""


class Catalogue:
    """Keeps what is loaded in step with what is wanted.

    ``tell`` is called when the frontends are to be told what ``describe`` says.

    A version that is wanted is loaded beside those that are served. It takes over when all of its workers are settled
    and one is ready; only then the versions that are not wanted any more retire. So a version that cannot be loaded
    never takes down one that can be.
    """

    def __init__(self, settings: Settings, fleet: Fleet, tell: Callable[[], None]) -> None:
        self._settings, self._fleet, self._tell = settings, fleet, tell
        self._loop = asyncio.get_running_loop()
        self._folders: dict[str, ModelFolder] = {}
        self._held: set[str] = set()
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def names(self) -> list[str]:
        """Every model that the repository holds or that is still loaded."""
        return sorted({*self._folders, *(model.name for model in self._fleet.models)})

    def take(self, folders: Iterable[ModelFolder]) -> None:
        """Take what a scan of the whole repository has found, and load what is new."""
        before, self._folders = self._folders, {folder.name: folder for folder in folders}
        for name, folder in self._folders.items():
            if folder.problem and (name not in before or before[name].problem != folder.problem):
                logger.warning("model %s: %s", name, folder.problem)
            self._load_wanted(name)
        self.settle()

    def hold(self, names: Iterable[str]) -> None:
        """Keep models from being loaded until they are asked for by name."""
        self._held |= set(names)

    def describe(self) -> dict[str, list[ModelInfo]]:
        """Every model's versions; a model without one, or with a problem, has an entry that says why."""
        return {name: self._describe(name) for name in self.names}

    def settle(self) -> None:
        """Let versions that are ready take over, and retire those that are not wanted any more."""
        going = [model for name in self.names for model in self._settle_model(name)]
        # The frontends learn who takes over before those who go may take nothing more.
        self._tell()
        for model in going:
            self._fleet.retire(model)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def load(self, folder: ModelFolder) -> None:
        """Load a model, or load anew what has changed of it; returns when it is served.

        Raises:
            ModelLoadError: it cannot be; what was served before still is.
        """
        name = folder.name
        self._folders[name] = folder
        self._held.discard(name)
        for model in self._loaded(name):
            if model.state == "failed":
                model.retiring = True
                self._fleet.retire(model)
        self._load_wanted(name)
        self.settle()
        current = [model for model in self._loaded(name) if _is_wanted(model, self._wanted(name) or ())]
        await self._until(lambda: all(model.settled or model.retiring for model in current))
        failed = [f"version {model.version}: {model.reason}" for model in current if model.state != "ready"]
        if folder.problem or failed or not current:
            reasons = "; ".join([*([folder.problem] if folder.problem else []), *failed]) or "it has no version"
            raise ModelLoadError(f"model {name!r} cannot be loaded: {reasons}")

    async def unload(self, name: str) -> None:
        """Unload every version of a model; returns when all they had taken is answered and their workers have ended.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        if name not in self.names:
            raise ModelNotFoundError(
                f"there is no model {name!r}; the repository has {', '.join(self.names) or 'none'}"
            )
        self._held.add(name)
        going = [model for model in self._fleet.models if model.name == name]
        self.settle()
        await self._until(lambda: all(model.gone.is_set() for model in going))

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Until a condition holds that only a change of a model's state can bring about."""
        while not condition():
            changed = self._loop.create_future()
            self._waiting.append(changed)
            await changed

    def _settle_model(self, name: str) -> list[ModelVersion]:
        for model in self._loaded(name):
            if model.held_back and model.ready_workers and (model.settled or not self._is_served(name)):
                model.held_back = False
                logger.info("model %s version %s takes over", model.name, model.version)
        wanted = self._wanted(name)
        if wanted is None:
            return []
        going = [model for model in self._loaded(name) if self._may_go(model, wanted)]
        for model in going:
            model.retiring = True
        return going

    def _loaded(self, name: str) -> list[ModelVersion]:
        return [model for model in self._fleet.models if model.name == name and not model.retiring]

    def _is_served(self, name: str) -> bool:
        return any(model.state in _SERVED for model in self._loaded(name))

    def _wanted(self, name: str) -> tuple[VersionFolder, ...] | None:
        """The versions that are to be served; None where the folder does not tell, and all stays as it is."""
        folder = self._folders.get(name)
        if folder is None or name in self._held:
            return ()
        return None if folder.problem and not folder.chosen else folder.chosen

    def _load_wanted(self, name: str) -> None:
        folder, loaded = self._folders[name], self._loaded(name)
        for version in self._wanted(name) or ():
            if not any(_is_wanted(model, (version,)) for model in loaded):
                self._fleet.load(ModelVersion(folder, version, self._settings, held_back=self._is_served(name)))

    def _may_go(self, model: ModelVersion, wanted: tuple[VersionFolder, ...]) -> bool:
        """Whether a loaded version may retire: it is not wanted, and whatever is wanted instead answers."""
        if _is_wanted(model, wanted):
            return False
        if not wanted or model.state not in _SERVED:
            return True
        current = [other for other in self._loaded(model.name) if _is_wanted(other, wanted)]
        successor = next((other for other in current if other.version == model.version), None)
        if successor is not None:
            return successor.state == "ready"
        removed = model.source.number not in {version.number for version in self._folders[model.name].versions}
        ready = [other for other in current if other.state == "ready"]
        return len(ready) == len(wanted) or (removed and bool(ready))

    def _describe(self, name: str) -> list[ModelInfo]:
        infos = [model.describe() for model in self._loaded(name)]
        folder = self._folders.get(name)
        if name in self._held and not infos:
            infos.append(ModelInfo(name, "", "unloaded", "it is not loaded; load it by name"))
        elif folder is not None and folder.problem:
            state: ModelState = "failed" if folder.versions else "absent"
            infos.append(ModelInfo(name, "", state, folder.problem, preprocessing=folder.config.preprocessing))
        return infos


def _is_wanted(model: ModelVersion, wanted: Iterable[VersionFolder]) -> bool:
    """Whether it is one of these, and its files have not changed since it was loaded."""
    source = model.source
    return any((source.number, source.fingerprint) == (version.number, version.fingerprint) for version in wanted)
