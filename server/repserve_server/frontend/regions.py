"""The shared-memory regions of this frontend, opened and closed as the supervisor says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from repserve_server.channel.dialogue import Answerer
from repserve_server.dataplane.administration import Region
from repserve_server.dataplane.regions import Regions
from repserve_server.errors import RepServeError

logger = logging.getLogger(__name__)

Body = dict[str, Any]


class FrontendRegions:
    """``first`` are the regions that were registered before this frontend was started."""

    def __init__(self, first: list[Body]) -> None:
        self.regions = Regions()
        for body in first:
            try:
                self.regions.open(Region(**body))
            except RepServeError as error:
                logger.warning("a shared memory region can no longer be opened: %s", error.message)

    @property
    def answerers(self) -> Mapping[str, Answerer]:
        """What the supervisor may ask."""
        return {"open_region": self._open, "close_region": self._close}

    async def _open(self, body: Body) -> Body:
        self.regions.open(Region(**body))
        return {}

    async def _close(self, body: Body) -> Body:
        self.regions.close(str(body["name"]))
        return {}
