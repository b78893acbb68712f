"""Changes of the repository: when to scan it again, and which new files are complete."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from watchfiles import awatch

from repserve_server.repository.scan import ModelFolder, VersionFolder

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""How long a version's files must stay as they are before it is loaded: copying a model takes a while."""
_DEBOUNCE_MILLISECONDS = 200


async def changes(root: Path, mode: Literal["poll", "watch"], poll_seconds: float) -> AsyncIterator[None]:
    """Yield whenever the repository must be scanned again; never ends.

    Where the kernel reports no changes (its limit of watches is reached, the folder is gone), it polls.
    """
    if mode == "watch":
        try:
            async for _ in awatch(root, debounce=_DEBOUNCE_MILLISECONDS, recursive=True):
                yield
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be watched (%s); polling every %.0f s", root, error, poll_seconds)
    while True:
        await asyncio.sleep(poll_seconds)
        yield


class Settling:
    """Holds versions back until their files have stayed the same for a while.

    A folder that was renamed into place is complete from the start, but looks like one that is still being copied, so
    it waits too.
    """

    def __init__(self, clock: Callable[[], float], seconds: float = SETTLE_SECONDS) -> None:
        self._clock, self._seconds = clock, seconds
        self._seen: dict[tuple[str, int], tuple[str, float]] = {}
        self._settled: dict[tuple[str, int], VersionFolder] = {}

    def trust(self, folders: Iterable[ModelFolder]) -> None:
        """Take these versions, found when the server starts, as complete."""
        self._settled = {(f.name, v.number): v for f in folders for v in f.versions}

    def sift(self, folders: Iterable[ModelFolder]) -> tuple[list[ModelFolder], bool]:
        """Leave out what may be incomplete: a new version, or the new state of a known one.

        Returns:
            The folders, and whether something was left out, so that another scan is due.
        """
        now = self._clock()
        seen: dict[tuple[str, int], tuple[str, float]] = {}
        sifted: list[ModelFolder] = []
        waiting = False
        for folder in folders:
            kept = []
            for version in folder.versions:
                key = (folder.name, version.number)
                fingerprint, since = self._seen.get(key, ("", now))
                seen[key] = (version.fingerprint, since if fingerprint == version.fingerprint else now)
                known = self._settled.get(key)
                if now - seen[key][1] >= self._seconds or (known and known.fingerprint == version.fingerprint):
                    known = self._settled[key] = version
                else:
                    waiting = True
                kept += [known] if known else []
            sifted.append(replace(folder, versions=tuple(kept)))
        self._seen = seen
        self._settled = {key: version for key, version in self._settled.items() if key in seen}
        return sifted, waiting
