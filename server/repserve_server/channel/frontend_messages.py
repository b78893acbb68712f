"""The control messages to and from a frontend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from repserve_server.channel.message import CollectMetrics, Identity, Message, MetricsReport, SetLogLevel, Stop
from repserve_server.channel.model_info import ModelInfo, Output
from repserve_server.channel.requests import Call, Region, Reply
from repserve_server.channel.slots import SlotLayout


class StartFrontend(Message):
    """The first message to a frontend: listen."""

    kind: Literal["start_frontend"] = "start_frontend"
    identity: Identity
    address: str
    host: str
    http_port: int
    decode_threads: int
    max_image_pixels: int
    default_timeout_seconds: float
    load_timeout_seconds: float
    otlp_endpoint: str | None
    trace_sample_ratio: float
    regions: tuple[Region, ...]


class UpdateModel(Message):
    """The newest description of every version of a model; none when the model is no more."""

    kind: Literal["update_model"] = "update_model"
    model: str
    versions: tuple[ModelInfo, ...]


class UpdateReadiness(Message):
    """Whether the server as a whole is ready. First sent when the frontend knows every model."""

    kind: Literal["update_readiness"] = "update_readiness"
    ready: bool


class OpenQueue(Message):
    """A revision has its first worker. Beside it: the memory of the frontend's slots."""

    kind: Literal["open_queue"] = "open_queue"
    model: str
    version: str
    revision: int
    labels: tuple[str, ...]
    layout: SlotLayout
    output: Output
    best_image_seconds: float


class AttachWorker(Message):
    """A worker takes a revision's images. Beside it: the frontend's end of the link."""

    kind: Literal["attach_worker"] = "attach_worker"
    revision: int
    worker: str


class DetachWorker(Message):
    """A worker has ended: no process writes to its images any more. ``crashed``: one of them may be the reason."""

    kind: Literal["detach_worker"] = "detach_worker"
    revision: int
    worker: str
    crashed: bool


class RetireRevision(Message):
    """Answer what a revision has taken, then forget it and send ``Retired``."""

    kind: Literal["retire_revision"] = "retire_revision"
    revision: int


class BecomeUnready(Message):
    """The server will shut down: be not ready for load balancers, and take requests all the same."""

    kind: Literal["become_unready"] = "become_unready"


class Drain(Message):
    """Refuse new requests, answer those that were taken, and then send ``Drained``."""

    kind: Literal["drain"] = "drain"


class Started(Message):
    """The frontend listens."""

    kind: Literal["started"] = "started"


class Retired(Message):
    """All that a revision had taken is answered."""

    kind: Literal["retired"] = "retired"
    revision: int


class Drained(Message):
    """Everything that was taken is answered."""

    kind: Literal["drained"] = "drained"


ToFrontend = (
    StartFrontend
    | UpdateModel
    | UpdateReadiness
    | OpenQueue
    | AttachWorker
    | DetachWorker
    | RetireRevision
    | CollectMetrics
    | SetLogLevel
    | BecomeUnready
    | Drain
    | Stop
    | Call
    | Reply
)
FromFrontend = Started | Retired | Drained | MetricsReport | Call | Reply

TO_FRONTEND: TypeAdapter[ToFrontend] = TypeAdapter(Annotated[ToFrontend, Field(discriminator="kind")])
FROM_FRONTEND: TypeAdapter[FromFrontend] = TypeAdapter(Annotated[FromFrontend, Field(discriminator="kind")])
