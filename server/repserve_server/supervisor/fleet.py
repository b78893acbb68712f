"""The fleet: the processes that there are, those of frontends and those of the versions that are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.supervisor.frontends import Frontend
    from repserve_server.supervisor.kept_process import KeptProcess
    from repserve_server.supervisor.models import ModelVersion
    from repserve_server.supervisor.workers import Worker


@dataclass
class Fleet:
    """Frontends, and versions with their workers; those that retire are among them."""

    frontends: list[Frontend]
    versions: list[ModelVersion] = field(default_factory=list)

    @property
    def workers(self) -> Iterator[tuple[ModelVersion, Worker]]:
        """Every worker, with its version."""
        return ((version, worker) for version in self.versions for worker in version.workers)

    @property
    def processes(self) -> Iterator[KeptProcess]:
        """Every frontend and every worker."""
        yield from self.frontends
        yield from (worker for _, worker in self.workers)
