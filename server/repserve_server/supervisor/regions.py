"""The shared-memory regions that clients have registered: one table for the server, a mapping in each frontend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from repserve_server.channel.requests import CloseRegion, OpenRegion, Region
from repserve_server.errors import AlreadyExistsError, NotAllowedError, RepServeError

if TYPE_CHECKING:
    from repserve_server.supervisor.frontends import Frontends

MAX_REGIONS = 1024
CALL_SECONDS = 10.0


class RegionTable:
    """Which regions there are. A frontend that starts later is told of all of them."""

    def __init__(self, frontends: Frontends) -> None:
        self._frontends = frontends
        self._regions: dict[str, Region] = {}
        # One change at a time: a second registration of a name must not overtake the first.
        self._changing = asyncio.Lock()

    @property
    def regions(self) -> list[Region]:
        """All of them, by name."""
        return [self._regions[name] for name in sorted(self._regions)]

    async def register(self, region: Region) -> None:
        """Have every frontend map a region.

        Raises:
            AlreadyExistsError: the name is taken.
            RepServeError: a frontend cannot map it; then none keeps it.
        """
        async with self._changing:
            if region.name in self._regions:
                raise AlreadyExistsError(
                    f"shared memory region {region.name!r} is registered already; unregister it first"
                )
            if len(self._regions) >= MAX_REGIONS:
                raise NotAllowedError(f"{MAX_REGIONS} shared memory regions are registered, and no more may be")
            # In the table first, so that a frontend that starts meanwhile gets it too.
            self._regions[region.name] = region
            try:
                await self._frontends.call_all(OpenRegion(region=region), CALL_SECONDS)
            except RepServeError:
                await self._forget([region.name])
                raise

    async def unregister(self, name: str) -> None:
        """Have every frontend forget a region, or all of them for the empty name; an unknown one is no error."""
        async with self._changing:
            await self._forget([name] if name else list(self._regions))

    async def _forget(self, names: list[str]) -> None:
        for name in names:
            if self._regions.pop(name, None) is not None:
                await self._frontends.call_all(CloseRegion(name=name), CALL_SECONDS)
