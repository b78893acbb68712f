"""Running the server: settings are logged once, errors at start end it with one line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from repserve_server.process import allow_descriptors
from repserve_server.supervisor.follower import NothingToServeError
from repserve_server.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from repserve_server.settings import Settings

logger = logging.getLogger(__name__)

DESCRIPTORS = 65_536
"""The supervisor has one for each version and frontend: 1,024, a common limit, is too few for hundreds of models."""


async def run_server(settings: Settings) -> int:
    """Run the server until a signal; returns its exit status."""
    chosen = {"frontends": settings.frontend_count, "decode_threads": settings.decode_thread_count}
    values = settings.model_dump(mode="json") | chosen
    effective = ", ".join(f"{name} = {'default' if value is None else value}" for name, value in values.items())
    logger.info("settings: %s", effective)
    allow_descriptors(DESCRIPTORS)
    try:
        return await Supervisor(settings).run()
    except NothingToServeError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return 1
