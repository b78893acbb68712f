"""Calls between the supervisor and frontends: a request gets its response, or an error with its status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainSerializer

from repserve_server.channel.message import Message, Text
from repserve_server.errors import Status
from repserve_server.logs import LogLevel
from repserve_server.metrics import Sample

ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True)
class Region:
    """A part of a POSIX shared-memory object that a client has registered under a name.

    Attributes:
        name: by which requests speak of it.
        key: the object's name, as given to ``shm_open``.
        offset: where the region begins in the object, in bytes.
        byte_size: how long it is.
    """

    name: str
    key: str
    offset: int
    byte_size: int


def _by_name(value: object) -> object:
    return Status[value] if isinstance(value, str) else value


class Done(Message):
    """The request was carried out."""

    kind: Literal["done"] = "done"


class Failure(Message):
    """The request failed."""

    kind: Literal["failure"] = "failure"
    status: Annotated[Status, BeforeValidator(_by_name), PlainSerializer(lambda status: status.name)]
    message: Text
    retry_after: float | None = None


class RegionList(Message):
    """The regions that are registered."""

    kind: Literal["region_list"] = "region_list"
    regions: tuple[Region, ...]


class CurrentLogLevel(Message):
    """The level from which all processes log."""

    kind: Literal["current_log_level"] = "current_log_level"
    level: LogLevel


class Figures(Message):
    """Counts of the whole server at one moment; rates are the difference of two.

    Attributes:
        seconds: the moment, on a clock of its own that never goes back.
        model_control_mode: whether models are loaded by request (``explicit``) or as the repository has them.
        samples: series of /metrics, each its name, labels and value.
    """

    kind: Literal["figures"] = "figures"
    seconds: float
    model_control_mode: str
    samples: tuple[Sample, ...]


class Request(Message, Generic[ResponseT]):
    """What is answered with a ``ResponseT``."""


class LoadModel(Request[Done]):
    """Load a model, or load it anew with what its folder holds now; done once it answers."""

    kind: Literal["load_model"] = "load_model"
    model: str


class UnloadModel(Request[Done]):
    """Unload every version of a model; done once what it had taken is answered."""

    kind: Literal["unload_model"] = "unload_model"
    model: str


class RegisterRegion(Request[Done]):
    """Open a region; the supervisor passes it on to every frontend."""

    kind: Literal["register_region"] = "register_region"
    region: Region


class UnregisterRegion(Request[Done]):
    """Close a region, or all of them for the empty name; the supervisor passes each name on to every frontend."""

    kind: Literal["unregister_region"] = "unregister_region"
    name: str


class ListRegions(Request[RegionList]):
    """Name the regions that are registered."""

    kind: Literal["list_regions"] = "list_regions"


class ChangeLogLevel(Request[CurrentLogLevel]):
    """Set the level from which all processes log, if one is given, and return it."""

    kind: Literal["change_log_level"] = "change_log_level"
    level: LogLevel | None = None


class GetFigures(Request[Figures]):
    """Add up series of /metrics with these names over all processes."""

    kind: Literal["get_figures"] = "get_figures"
    samples: tuple[str, ...]


AnyRequest = Annotated[
    LoadModel | UnloadModel | RegisterRegion | UnregisterRegion | ListRegions | ChangeLogLevel | GetFigures,
    Field(discriminator="kind"),
]
AnyResponse = Annotated[Done | Failure | RegionList | CurrentLogLevel | Figures, Field(discriminator="kind")]


class Call(Message):
    """A request under the sender's number, which its response carries too."""

    kind: Literal["call"] = "call"
    number: int
    request: AnyRequest


class Reply(Message):
    """The response to a call."""

    kind: Literal["reply"] = "reply"
    number: int
    response: AnyResponse
