"""The catalogue: what the repository holds, which versions of it are served, and how one takes over from another."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from repserve_server.channel.model_info import ModelInfo, ModelState
from repserve_server.errors import ModelLoadError, ModelNotFoundError
from repserve_server.supervisor.model_source import ModelSource
from repserve_server.supervisor.models import ModelVersion

if TYPE_CHECKING:
    from repserve_server.repository.scan import ModelFolder, VersionFolder
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.kept_process import Context

logger = logging.getLogger(__name__)


class Catalogue:
    """Keeps the versions that are loaded in step with those that are wanted.

    A version that is wanted is loaded beside those that are served. It takes over when all of its workers are settled
    and one is ready; only then the versions that are not wanted any more retire. So a version that cannot be loaded
    never takes down one that can be.
    """

    def __init__(
        self, context: Context, fleet: Fleet, folders: Iterable[ModelFolder], held: Iterable[str] = ()
    ) -> None:
        self._context, self._fleet = context, fleet
        self._folders = {folder.name: folder for folder in folders}
        self._held = set(held)
        self._warned: dict[str, str] = {}
        self._by_name: dict[str, list[ModelVersion]] = {}

    @property
    def names(self) -> list[str]:
        """Every model that the repository holds or that is still loaded."""
        return sorted({*self._folders, *self._by_name})

    def take(self, folders: Iterable[ModelFolder]) -> None:
        """Take what a scan of the whole repository has found."""
        self._folders = {folder.name: folder for folder in folders}

    def load(self, folder: ModelFolder) -> list[ModelVersion]:
        """Have a model loaded that was held, and anew what has changed of it; returns the versions that are wanted."""
        name = folder.name
        self._folders[name] = folder
        self._held.discard(name)
        for version in self._loaded(name):
            if version.state == "failed":
                version.retiring = True
        self.reconcile()
        return [version for version in self._loaded(name) if version.is_one_of(self._wanted(name) or ())]

    def check_loaded(self, folder: ModelFolder, versions: Iterable[ModelVersion]) -> bool:
        """Whether a load of these versions has come to its end.

        Raises:
            ModelLoadError: it has, and not all of them answer; what was served before still is.
        """
        versions = list(versions)
        if not all(version.settled or version.retiring for version in versions):
            return False
        failed = [f"version {one.version}: {one.reason}" for one in versions if one.state != "ready"]
        if folder.problem or failed or not versions:
            reasons = "; ".join([*([folder.problem] if folder.problem else []), *failed]) or "it has no version"
            raise ModelLoadError(f"model {folder.name!r} cannot be loaded: {reasons}")
        return True

    def unload(self, name: str) -> list[ModelVersion]:
        """Have every version of a model unloaded, and no other loaded; returns those that are to go.

        Raises:
            ModelNotFoundError: there is no such model.
        """
        if name not in self.names:
            raise ModelNotFoundError(
                f"there is no model {name!r}; the repository has {', '.join(self.names) or 'none'}"
            )
        self._held.add(name)
        return list(self._by_name.get(name, ()))

    def reconcile(self) -> None:
        """Load what is wanted, let versions that are ready take over, and retire those that are not wanted any more."""
        for name in self.names:
            self._warn_once(name)
            self._load_wanted(name)
            for version in self._loaded(name):
                if version.held_back and version.ready_workers and (version.settled or not self._is_served(name)):
                    version.held_back = False
                    logger.info("model %s version %s takes over", version.name, version.version)
            wanted = self._wanted(name)
            if wanted is not None:
                for version in [one for one in self._loaded(name) if self._may_go(one, wanted)]:
                    version.retiring = True

    def forget_gone(self) -> None:
        """Forget the versions that are unloaded."""
        for version in [version for version in self._fleet.versions if version.gone]:
            self._fleet.versions.remove(version)
            others = [other for other in self._by_name.pop(version.name) if other is not version]
            if others:
                self._by_name[version.name] = others
            if all(other.version != version.version for other in others):
                self._context.metrics.forget_version(version.name, version.version)
            logger.info("model %s version %s is unloaded", version.name, version.version)

    def describe(self) -> dict[str, tuple[ModelInfo, ...]]:
        """Every model's versions; a model without one, or with a problem, has an entry with the reason."""
        return {name: tuple(self._describe(name)) for name in self.names}

    def _warn_once(self, name: str) -> None:
        problem = self._folders[name].problem if name in self._folders else ""
        if problem and self._warned.get(name) != problem:
            logger.warning("model %s: %s", name, problem)
        self._warned[name] = problem

    def _loaded(self, name: str) -> list[ModelVersion]:
        return [version for version in self._by_name.get(name, ()) if not version.retiring]

    def _is_served(self, name: str) -> bool:
        return any(version.serves for version in self._loaded(name))

    def _wanted(self, name: str) -> tuple[VersionFolder, ...] | None:
        """Return the versions to serve; None if the folder cannot be read, so that nothing changes."""
        folder = self._folders.get(name)
        if folder is None or name in self._held:
            return ()
        return None if folder.problem and not folder.chosen else folder.chosen

    def _load_wanted(self, name: str) -> None:
        for files in self._wanted(name) or ():
            if not any(version.is_one_of((files,)) for version in self._loaded(name)):
                source = ModelSource(self._folders[name], files, self._context.wanted.settings)
                version = ModelVersion(source, self._context, held_back=self._is_served(name))
                self._fleet.versions.append(version)
                self._by_name.setdefault(name, []).append(version)

    def _may_go(self, version: ModelVersion, wanted: tuple[VersionFolder, ...]) -> bool:
        """Whether a loaded version may retire: it is not wanted, and whatever is wanted instead answers."""
        if version.is_one_of(wanted):
            return False
        if not wanted or not version.serves:
            return True
        current = [other for other in self._loaded(version.name) if other.is_one_of(wanted)]
        successor = next((other for other in current if other.version == version.version), None)
        if successor is not None:
            return successor.state == "ready"
        present = {files.number for files in self._folders[version.name].versions}
        ready = [other for other in current if other.state == "ready"]
        return len(ready) == len(wanted) or (version.source.files.number not in present and bool(ready))

    def _describe(self, name: str) -> list[ModelInfo]:
        infos = [version.describe() for version in self._loaded(name)]
        folder = self._folders.get(name)
        if name in self._held and not infos:
            infos.append(ModelInfo(name, "", "unloaded", "it is not loaded; load it by name"))
        elif folder is not None and folder.problem:
            state: ModelState = "failed" if folder.versions else "absent"
            infos.append(ModelInfo(name, "", state, folder.problem, preprocessing=folder.config.preprocessing))
        return infos
