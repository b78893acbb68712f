"""The shared-memory regions of this frontend, opened and closed on the supervisor's request."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from repserve_server.channel.requests import AnyRequest, Done, Region, RegisterRegion, UnregisterRegion
from repserve_server.dataplane.regions import Regions
from repserve_server.errors import RepServeError

logger = logging.getLogger(__name__)


class FrontendRegions:
    """Answers the supervisor's calls about ``regions``."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def open_all(self, regions: Iterable[Region]) -> None:
        """Open the regions that were registered before this frontend was started."""
        for region in regions:
            try:
                self._regions.open(region)
            except RepServeError as error:
                logger.warning("a shared memory region can no longer be opened: %s", error.message)

    def handle(self, request: AnyRequest) -> Done:
        """Open or close a region."""
        match request:
            case RegisterRegion():
                self._regions.open(request.region)
            case UnregisterRegion():
                self._regions.close(request.name)
            case _:
                raise TypeError(f"a frontend does not answer {type(request).__name__}")
        return Done()
