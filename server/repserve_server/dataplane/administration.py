"""What a protocol may ask of the server as a whole; the answer is the same whichever frontend is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass
class Duration:
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    nanoseconds: int = 0


@dataclass
class ModelStatistics:
    """What became of a model version's requests since the server started, over all frontends and workers.

    Attributes:
        name: the model.
        version: its version.
        last_inference: milliseconds since the epoch; 0 for never.
        inferences: images that were classified.
        success: requests that were answered, from arrival to answer.
        fail: requests that failed, likewise.
        queue: for requests answered: from being ready for the device until the batch started.
        compute_input: decoding, resizing and cropping.
        compute_infer: time on the device.
        compute_output: from the device's answer to the request's.
        batches: runs on the device by the number of images in them, padding not counted.
    """

    name: str
    version: str
    last_inference: int = 0
    inferences: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> ModelStatistics:
        """The statistics from a control message (``dataclasses.asdict`` on the other side)."""
        durations = {
            key: Duration(**value) for key, value in body.items() if isinstance(value, dict) and key != "batches"
        }
        batches = {int(size): Duration(**value) for size, value in body["batches"].items()}
        return cls(**{**body, **durations, "batches": batches})


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


class Administration(Protocol):
    """The server as a whole, as a protocol sees it.

    Every method raises ``RepServeError`` when it is not possible, or not allowed, with a message for the client.
    """

    async def load(self, model: str) -> None:
        """Load a model, or load it anew with what its folder holds now; returns once it answers."""
        ...

    async def unload(self, model: str) -> None:
        """Unload every version of a model; returns once what it had taken is answered."""
        ...

    async def statistics(self) -> list[ModelStatistics]:
        """The statistics of every model version that was served since the server started."""
        ...

    async def register_region(self, region: Region) -> None:
        """Make a region known to every frontend; returns once all of them have mapped it."""
        ...

    async def unregister_region(self, name: str) -> None:
        """Have every frontend forget a region, or all of them for the empty name."""
        ...

    async def regions(self) -> list[Region]:
        """The regions that are registered."""
        ...

    async def log_level(self, level: LogLevel | None = None) -> LogLevel:
        """The level from which all processes log; ``level`` sets it first."""
        ...
