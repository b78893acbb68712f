"""What a protocol may ask of the server as a whole; the answer is the same whichever frontend is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

LogLevel = Literal["debug", "info", "warning", "error"]


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


@dataclass(frozen=True)
class Figures:
    """Counts of the whole server at one moment; rates are the difference of two.

    Attributes:
        seconds: the moment, on a clock of its own that never goes back.
        model_control_mode: whether models are loaded by request (``explicit``) or as the repository has them.
        samples: series of /metrics, each its name, labels and value.
    """

    seconds: float
    model_control_mode: str
    samples: list[tuple[str, dict[str, str], float]]


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

    async def figures(self, samples: Sequence[str]) -> Figures:
        """The series of /metrics with these names, over all processes."""
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
