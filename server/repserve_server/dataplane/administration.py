"""Operations on the server as a whole; the result is the same whichever frontend handles them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from repserve_server.channel.requests import Figures, Region
from repserve_server.logs import LogLevel


class Administration(Protocol):
    """The server as a whole, as a protocol sees it.

    Every method raises ``RepServeError`` when it is not possible, or not allowed, with a message for the client.
    """

    async def load(self, model: str) -> None:
        """Load a model, or load it anew with what its folder holds now; returns once it answers."""
        ...

    async def unload(self, model: str) -> None:
        """Unload every version of a model; returns once what it had taken is answered."""
        ...

    async def figures(self, samples: Sequence[str]) -> Figures:
        """Return the series of /metrics with these names, over all processes."""
        ...

    async def register_region(self, region: Region) -> None:
        """Make a region known to every frontend; returns once all of them have mapped it."""
        ...

    async def unregister_region(self, name: str) -> None:
        """Have every frontend forget a region, or all of them for the empty name."""
        ...

    async def regions(self) -> Sequence[Region]:
        """List the registered regions."""
        ...

    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        """Return the level from which all processes log; ``level`` sets it first."""
        ...
