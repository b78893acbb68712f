"""Administration by asking the supervisor: what it says holds for every frontend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from repserve_server.dataplane.administration import Figures, LogLevel, Region

if TYPE_CHECKING:
    from repserve_server.channel.dialogue import Dialogue

ASK_SECONDS = 15.0
"""For what the supervisor and the other frontends do at once."""


class RemoteAdministration:
    """``Administration`` as a frontend has it.

    Loading and unloading may take as long as they take: a large model, or requests that are answered first. Whoever
    asked may stop waiting; the supervisor goes on.
    """

    def __init__(self, dialogue: Dialogue, load_timeout_seconds: float) -> None:
        self._dialogue = dialogue
        self._load_timeout_seconds = load_timeout_seconds

    async def load(self, model: str) -> None:
        """See ``Administration.load``."""
        await self._dialogue.ask("load", {"model": model}, self._load_timeout_seconds)

    async def unload(self, model: str) -> None:
        """See ``Administration.unload``."""
        await self._dialogue.ask("unload", {"model": model}, self._load_timeout_seconds)

    async def figures(self, samples: Sequence[str]) -> Figures:
        """See ``Administration.figures``."""
        answer = await self._dialogue.ask("figures", {"samples": samples}, ASK_SECONDS)
        found = [(name, labels, value) for name, labels, value in answer["samples"]]
        return Figures(answer["seconds"], answer["model_control_mode"], found)

    async def register_region(self, region: Region) -> None:
        """See ``Administration.register_region``."""
        await self._dialogue.ask("register_region", asdict(region), ASK_SECONDS)

    async def unregister_region(self, name: str) -> None:
        """See ``Administration.unregister_region``."""
        await self._dialogue.ask("unregister_region", {"name": name}, ASK_SECONDS)

    async def regions(self) -> list[Region]:
        """See ``Administration.regions``."""
        answer = await self._dialogue.ask("regions", {}, ASK_SECONDS)
        return [Region(**entry) for entry in answer["regions"]]

    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        """See ``Administration.log_level``."""
        answer = await self._dialogue.ask("log_level", {"level": level}, ASK_SECONDS)
        said: LogLevel = answer["level"]
        return said
