"""A process that is kept alive: started, started again when it ends, killed when it hangs, and stopped."""

from __future__ import annotations

import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal, Protocol

from repserve_server.channel.message import CollectMetrics, SetLogLevel, Stop
from repserve_server.process import DEVICE_FAILED
from repserve_server.supervisor.backoff import FIRST_SECONDS, Backoff

if TYPE_CHECKING:
    from repserve_server.channel.message import Message
    from repserve_server.channel.requests import Region
    from repserve_server.logs import LogLevel
    from repserve_server.settings import Settings
    from repserve_server.supervisor.metrics import ServerMetrics

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long a process that is to stop may take before it is killed."""

Role = Literal["frontend", "worker"]


class Child(Protocol):
    """A process that runs."""

    @property
    def name(self) -> str:
        """For logs and metrics; unique among all that ever ran."""
        ...

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a control message; it is lost if the process has ended."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Launcher(Protocol):
    """Starts processes; what they send and that they end becomes an event."""

    def launch(self, role: Role, name: str) -> Child:
        """Start a process.

        Raises:
            OSError: the system has no room for it.
        """
        ...


@dataclass
class Wanted:
    """What every process is to go by."""

    settings: Settings
    ports: tuple[int, int]
    log_level: LogLevel
    regions: dict[str, Region] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What all kept processes share."""

    wanted: Wanted
    launcher: Launcher
    metrics: ServerMetrics
    clock: Callable[[], float]


class Wish(Enum):
    """What is to become of a process."""

    RUN = auto()
    """It is to run, and to be started again when it ends."""
    FINISH = auto()
    """It goes on, and is not started again."""
    STOP = auto()
    """It is to end now."""


class KeptProcess(ABC):
    """A place for a process of one role, and the process there now.

    Attributes:
        wish: what is to become of it.
        child: the process, while there is one.
        starts: how many processes were started here.
        started_at: when the latest was.
        in_service_since: when it came to do its work; None while it does not.
        requested_at: when its metrics were requested, if it has not sent them since.
        hung: it was killed because it did not answer.
    """

    def __init__(self, role: Role, context: Context) -> None:
        self.role, self.context = role, context
        self.wish = Wish.RUN
        self.child: Child | None = None
        self.starts = 0
        self.started_at = 0.0
        self.in_service_since: float | None = None
        self.requested_at: float | None = None
        self.hung = False
        self._backoff = Backoff(context.clock)
        self._start_due = float("-inf")
        self._kill_due: float | None = None
        self._log_level: LogLevel | None = None

    @property
    @abstractmethod
    def label(self) -> str:
        """The place, for logs."""

    @property
    @abstractmethod
    def silence_limit(self) -> float:
        """Seconds for which the process may be silent before it counts as hung."""

    @abstractmethod
    def first_message(self) -> Message:
        """Return the message that tells a new process what to do."""

    @abstractmethod
    def describe_hang(self, seconds: float) -> str:
        """Say what it was doing when it hung."""

    def keep(self) -> None:
        """Start, stop or kill the process, as is wanted and due; safe to call at any time."""
        now = self.context.clock()
        if self.child is None:
            if self.wish is Wish.RUN and now >= self._start_due:
                self._start(now)
            return
        if self.wish is Wish.STOP:
            self._stop(self.child, now)
        elif self.requested_at is not None and not self.hung and now - self.requested_at > self.silence_limit:
            self._kill_hung(self.child, now - self.requested_at)
        if self._log_level != self.context.wanted.log_level:
            self._log_level = self.context.wanted.log_level
            self.child.send(SetLogLevel(level=self._log_level))

    def next_due(self) -> float | None:
        """When ``keep`` has something to do by then, even if nothing happens."""
        if self.child is None:
            return self._start_due if self.wish is Wish.RUN else None
        return self._kill_due

    def collect_metrics(self) -> None:
        """Request its metrics, unless it has not answered the last request."""
        if self.child is not None and self.requested_at is None:
            self.requested_at = self.context.clock()
            self.child.send(CollectMetrics())

    def excuse(self, seconds: float) -> None:
        """Do not count so many of the last seconds as its silence."""
        if self.requested_at is not None:
            self.requested_at += seconds

    def start_after(self, delay: float, why: str) -> None:
        """Have the next process started after a delay in seconds."""
        self._start_due = self.context.clock() + delay
        self.context.metrics.restarts.labels(self.role).inc()
        logger.error("%s; starting it again in %.1f s", why, delay)

    def exited(self, returncode: int) -> None:
        """Note that the process has ended; if it is wanted, it is restarted after the back-off."""
        if self.child is None:
            return
        child, served = self.child, self._served_seconds()
        killed = returncode == -signal.SIGKILL and not self.hung
        self.context.metrics.forget(child.name, child.pid)
        self.child = self.in_service_since = self.requested_at = self._kill_due = self._log_level = None
        self.hung = False
        if self.wish is Wish.RUN:
            delay = self._backoff.next_delay(served, killed=killed)
            self.start_after(delay, f"{child.name} {describe_exit(returncode)}")

    def _served_seconds(self) -> float:
        return 0.0 if self.in_service_since is None else self.context.clock() - self.in_service_since

    def _start(self, now: float) -> None:
        self.starts += 1
        try:
            self.child = self.context.launcher.launch(self.role, f"{self.label}.{self.starts}")
        except OSError:
            logger.exception("%s cannot be started; trying again", self.label)
            self._start_due = now + max(FIRST_SECONDS, self._backoff.next_delay())
            return
        self.started_at = now
        self._log_level = self.context.wanted.log_level
        self.context.metrics.processes.add(self.child.pid, self.role)
        try:
            self.child.send(self.first_message())
        except ValueError:
            # Without it the process would wait for ever.
            logger.exception("the first message to %s cannot be written", self.child.name)
            self.child.kill()

    def _stop(self, child: Child, now: float) -> None:
        if self._kill_due is None:
            child.send(Stop())
            self._kill_due = now + STOP_SECONDS
        elif now >= self._kill_due:
            logger.warning("%s did not end and is killed", child.name)
            child.kill()
            self._kill_due = float("inf")

    def _kill_hung(self, child: Child, seconds: float) -> None:
        doing = self.describe_hang(seconds)
        logger.error("%s has not answered for %.1f s%s; it is killed", child.name, seconds, doing)
        self.context.metrics.hung_processes.labels(self.role).inc()
        self.hung = True
        child.kill()


def describe_exit(returncode: int | None) -> str:
    """Put an exit status into words."""
    if returncode is not None and returncode < 0:
        known = -returncode in {number.value for number in signal.Signals}
        return f"was ended by {signal.Signals(-returncode).name if known else f'signal {-returncode}'}"
    if returncode == DEVICE_FAILED:
        return "ended because its device failed"
    return f"exited with status {returncode}"
