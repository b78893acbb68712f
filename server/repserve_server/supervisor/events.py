"""What happens in and around the server: the controller learns of it through one queue."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.channel.frontend_messages import FromFrontend
    from repserve_server.channel.worker_messages import FromWorker
    from repserve_server.repository.scan import ModelFolder


@dataclass(frozen=True)
class MessageReceived:
    """The process of this name has sent a message."""

    process: str
    message: FromFrontend | FromWorker


@dataclass(frozen=True)
class ProcessExited:
    """The process of this name has ended and was waited for; negative status: the number of a signal."""

    process: str
    returncode: int


@dataclass(frozen=True)
class RepositoryScanned:
    """The repository has been read, since it may have changed."""

    folders: tuple[ModelFolder, ...]


@dataclass(frozen=True)
class ModelScanned:
    """The folder of a model has been read, for the load request of this number; None with the reason why it was not."""

    request: int
    folder: ModelFolder | None
    problem: str = ""


@dataclass(frozen=True)
class SignalReceived:
    """SIGTERM or SIGINT."""

    number: signal.Signals


@dataclass(frozen=True)
class ScrapeStarted:
    """A scrape waits until every process has sent its newest counts, or has had the time to."""

    counted: asyncio.Future[None]


@dataclass(frozen=True)
class TimerDue:
    """Something is due that waits for a time."""


Event = MessageReceived | ProcessExited | RepositoryScanned | ModelScanned | SignalReceived | ScrapeStarted | TimerDue
