"""The models a frontend knows: which versions answer, and why others do not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from repserve_server.errors import ModelNotFoundError, ModelUnavailableError
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from repserve_server.dataplane.queue import ModelQueue

ModelState = Literal["absent", "loading", "ready", "restarting", "failed"]


@dataclass(frozen=True)
class InstanceInfo:
    """A worker that runs a model, as the supervisor describes it."""

    device: str
    backend: str
    precision: str
    simulated: bool
    batch_seconds: dict[int, float]


@dataclass(frozen=True)
class ModelInfo:
    """A version of a model as the supervisor describes it; version is empty when there is none."""

    name: str
    version: str
    state: ModelState
    reason: str
    caution: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    max_batch: int = 0
    classes: int = 0
    instances: tuple[InstanceInfo, ...] = ()

    @classmethod
    def from_body(cls, body: dict[str, Any], labels: tuple[str, ...]) -> ModelInfo:
        """The description from a control message (``to_body`` on the other side), with labels sent before."""
        instances = tuple(
            InstanceInfo(**{**entry, "batch_seconds": {int(k): v for k, v in entry["batch_seconds"].items()}})
            for entry in body["instances"]
        )
        preprocessing = Preprocessing.model_validate(body["preprocessing"])
        return cls(**{**body, "labels": labels, "preprocessing": preprocessing, "instances": instances})

    def to_body(self) -> dict[str, Any]:
        """This description as the content of a control message; labels travel apart, once."""
        body = {
            name: getattr(self, name)
            for name in ("name", "version", "state", "reason", "caution", "max_batch", "classes")
        }
        body["preprocessing"] = self.preprocessing.model_dump()
        body["instances"] = [asdict(instance) for instance in self.instances]
        return body

    @property
    def ready(self) -> bool:
        """Whether it answers now."""
        return self.state == "ready"


@dataclass(frozen=True)
class ServedModel:
    """A model version with its queue in this frontend."""

    info: ModelInfo
    queue: ModelQueue


class ModelTable:
    """Looks up models by the names that requests use."""

    def __init__(self) -> None:
        self._infos: dict[tuple[str, str], ModelInfo] = {}
        self._queues: dict[tuple[str, str], ModelQueue] = {}
        self._served: dict[tuple[str, str], ServedModel] = {}

    @property
    def infos(self) -> list[ModelInfo]:
        """Every model of the repository."""
        return list(self._infos.values())

    @property
    def queues(self) -> list[ModelQueue]:
        """The queues of the versions that are or were ready."""
        return list(self._queues.values())

    def occupied(self) -> dict[tuple[str, str], int]:
        """How many images each queue holds, by model and version."""
        return {key: queue.occupied for key, queue in self._queues.items()}

    def update(self, infos: list[ModelInfo]) -> None:
        """Take the supervisor's newest description."""
        self._infos = {(info.name, info.version): info for info in infos}
        self._index()

    def open(self, name: str, version: str, queue: ModelQueue) -> None:
        """Give a version its queue."""
        self._queues[name, version] = queue
        self._index()

    def queue(self, name: str, version: str) -> ModelQueue | None:
        """The queue of a version, if it has one."""
        return self._queues.get((name, version))

    def find(self, name: str, version: str) -> ServedModel:
        """The version that a request means; empty strings mean the only model and the newest version.

        Raises:
            ModelNotFoundError: there is no such model or version.
            ModelUnavailableError: it cannot answer now.
        """
        served = self._served.get((name, version))
        return served if served is not None else self._explain(name, version)

    def _index(self) -> None:
        """Name every way to ask for a version that answers; one being restarted still queues images."""
        self._served = {}
        for key, info in self._infos.items():
            if key in self._queues and info.state in ("ready", "restarting"):
                served = ServedModel(info, self._queues[key])
                self._served[key] = served
                newest = self._served.get((info.name, ""))
                if newest is None or int(newest.info.version) < int(info.version):
                    self._served[info.name, ""] = served
        names = {name for name, version in self._served if version == ""}
        if len(names) == 1:
            self._served |= {("", version): served for (_, version), served in self._served.items()}

    def _explain(self, name: str, version: str) -> ServedModel:
        names = sorted({info.name for info in self._infos.values()})
        if name == "":
            ready = sorted({model for model, asked in self._served if model and asked == ""})
            if ready:
                raise ModelNotFoundError(f"the request names no model and several are served: {', '.join(ready)}")
            raise ModelUnavailableError("no model is ready yet; try again soon")
        versions = [info for info in self._infos.values() if info.name == name]
        if not versions:
            raise ModelNotFoundError(f"there is no model {name!r}; the repository has {', '.join(names) or 'none'}")
        info = next((info for info in versions if version in ("", info.version)), None)
        if info is None:
            known = ", ".join(other.version for other in versions if other.version) or "none"
            raise ModelNotFoundError(f"model {name!r} has no version {version!r} that is served; served: {known}")
        raise ModelUnavailableError(f"model {name!r} is {info.state}: {info.reason or 'try again soon'}")
