"""The models a frontend knows: which versions answer, and why others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_server.errors import ModelNotFoundError, ModelUnavailableError

if TYPE_CHECKING:
    import numpy as np

    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.dataplane.queue import ModelQueue


@dataclass(frozen=True)
class ServedModel:
    """A model version with its queue in this frontend."""

    info: ModelInfo
    queue: ModelQueue

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the images in its slots: uint8 pixels, or the float32 tensor that the model itself takes."""
        return self.queue.area.images.dtype


class ModelTable:
    """Looks up models by the names that requests use.

    Attributes:
        complete: whether it holds every model; until then an unknown one may still come.
        server_ready: whether the server as a whole is ready, as reported by the supervisor.
    """

    def __init__(self, *, complete: bool = True) -> None:
        self.complete = complete
        self._infos: list[ModelInfo] = []
        self._queues: dict[int, ModelQueue] = {}
        self._served: dict[tuple[str, str], ServedModel] = {}
        self.server_ready = False

    @property
    def infos(self) -> list[ModelInfo]:
        """Every version of every model of the repository that is served or to be served."""
        return list(self._infos)

    @property
    def queues(self) -> list[ModelQueue]:
        """The queues of all revisions that are or were ready."""
        return list(self._queues.values())

    def occupied(self) -> dict[tuple[str, str], int]:
        """How many images each model version's queues hold."""
        images: dict[tuple[str, str], int] = {}
        for queue in self._queues.values():
            images[queue.model] = images.get(queue.model, 0) + queue.occupied
        return images

    def update(self, infos: Sequence[ModelInfo]) -> None:
        """Take the supervisor's newest description."""
        self._infos = list(infos)
        self._index()

    def open(self, revision: int, queue: ModelQueue) -> None:
        """Give a revision its queue."""
        self._queues[revision] = queue
        self._index()

    def close(self, revision: int) -> ModelQueue | None:
        """Forget a revision's queue and return it, if it has one."""
        queue = self._queues.pop(revision, None)
        self._index()
        return queue

    def queue(self, revision: int) -> ModelQueue | None:
        """Return the queue of a revision, if it has one."""
        return self._queues.get(revision)

    def find(self, name: str, version: str) -> ServedModel:
        """Find the version that a request means; empty strings mean the only model and the newest version.

        Raises:
            ModelNotFoundError: there is no such model or version.
            ModelUnavailableError: it cannot answer now.
        """
        served = self._served.get((name, version))
        return served if served is not None else self._explain(name, version)

    def _index(self) -> None:
        """List the names by which a version that answers is found; one being restarted still queues images."""
        answering = [info for info in self._infos if info.state in ("ready", "restarting")]
        self._served = {}
        # The last one named wins: the newest version, and of that the newest revision.
        for info in sorted(answering, key=lambda info: (int(info.version), info.revision)):
            queue = self._queues.get(info.revision)
            if queue is not None:
                self._served[info.name, info.version] = self._served[info.name, ""] = ServedModel(info, queue)
        names = {name for name, _ in self._served}
        if len(names) == 1:
            self._served |= {("", version): served for (_, version), served in self._served.items()}

    def _explain(self, name: str, version: str) -> ServedModel:
        if not self.complete:
            raise ModelUnavailableError("the server is starting; try again soon")
        names = sorted({info.name for info in self._infos})
        if name == "":
            ready = sorted({model for model, number in self._served if model and number == ""})
            if ready:
                raise ModelNotFoundError(f"the request names no model; name one of {', '.join(ready)}")
            raise ModelUnavailableError("no model is ready yet; try again soon")
        versions = [info for info in self._infos if info.name == name]
        if not versions:
            raise ModelNotFoundError(f"there is no model {name!r}; the repository has {', '.join(names) or 'none'}")
        info = next((info for info in versions if version in ("", info.version)), None)
        if info is None:
            known = ", ".join(other.version for other in versions if other.version) or "none"
            raise ModelNotFoundError(f"model {name!r} has no version {version!r} that is served; served: {known}")
        raise ModelUnavailableError(f"model {name!r} is {info.state}: {info.reason or 'try again soon'}")
