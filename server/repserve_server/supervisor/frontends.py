"""The frontends: started, listened to, and started again when they end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from repserve_server.channel.calls import Handler, Peer
from repserve_server.channel.frontend_messages import (
    FROM_FRONTEND,
    BecomeUnready,
    Drain,
    Drained,
    FromFrontend,
    Retired,
    Started,
    StartFrontend,
    UpdateModel,
    UpdateReadiness,
)
from repserve_server.channel.message import Identity, Message, MetricsReport
from repserve_server.channel.requests import Call, Done, Region, Reply, Request
from repserve_server.errors import RepServeError
from repserve_server.supervisor.backoff import Backoff
from repserve_server.supervisor.child import Child, describe_exit
from repserve_server.supervisor.ports import join_address
from repserve_server.supervisor.watchdog import hung_frontends

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.logs import LogLevel
    from repserve_server.settings import Settings
    from repserve_server.supervisor.metrics import ServerMetrics
    from repserve_server.supervisor.models import ModelVersion

FrontendChild = Child[FromFrontend]

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class FrontendPlace:
    """A place for a frontend process, and the process there now.

    Attributes:
        index: its number.
        child: the process, while there is one.
        peer: calls to it and from it.
        started: it listens on the port.
        started_at: when it began to, on the loop's clock.
        drained: it has answered all that it had taken, or will answer nothing any more.
        lost: it died with requests unanswered during a drain.
        areas: descriptors of its slot areas.
        told: what it was last told of each model.
        told_ready: whether it was last told that the server is ready.
        starts: how many processes were started here.
    """

    index: int
    child: FrontendChild | None = None
    peer: Peer | None = None
    started: bool = False
    started_at: float = 0.0
    drained: bool = False
    lost: bool = False
    areas: dict[ModelVersion, int] = field(default_factory=dict)
    told: dict[str, tuple[ModelInfo, ...]] = field(default_factory=dict)
    told_ready: bool | None = None
    starts: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(time.monotonic))


@dataclass(frozen=True)
class FrontendEvents:
    """Whom the frontends' news concerns.

    Attributes:
        started: a frontend listens and is to learn of the models.
        retired: a frontend has answered all that a revision had taken.
        ended: a frontend's process has ended; its slot areas are closed.
        changed: something changed that the supervisor may wait for.
        metrics: a child has sent its counts.
        handle: answers a frontend's call.
    """

    started: Callable[[FrontendPlace, FrontendChild], None]
    retired: Callable[[FrontendPlace, int], None]
    ended: Callable[[FrontendPlace], None]
    changed: Callable[[], None]
    metrics: Callable[[Child[Any], MetricsReport], None]
    handle: Handler


class Frontends:
    """Keeps the frontends running until a drain. ``ports`` are those of gRPC and of HTTP."""

    def __init__(
        self,
        settings: Settings,
        ports: tuple[int, int],
        metrics: ServerMetrics,
        events: FrontendEvents,
        log_level: Callable[[], LogLevel],
    ) -> None:
        self._settings, self._ports = settings, ports
        self._metrics, self._events = metrics, events
        self._loop = asyncio.get_running_loop()
        self.places = [FrontendPlace(index) for index in range(settings.frontend_count)]
        self.restarting = True
        self._going = False
        self._log_level = log_level
        self.regions: Callable[[], Sequence[Region]] = tuple
        """The regions that a new frontend is to open."""

    @property
    def listening(self) -> list[tuple[FrontendPlace, FrontendChild]]:
        """Those that have started and run."""
        return [(place, place.child) for place in self.places if place.started and place.child is not None]

    def start(self) -> None:
        """Start every frontend."""
        for place in self.places:
            self._start(place)

    def go(self) -> None:
        """Have every frontend say that it is not ready, those that start later too; they take requests all the same."""
        self._going = True
        self.send(BecomeUnready())

    def drain(self) -> None:
        """Have every frontend refuse new requests and answer those it has; one that dies is not replaced any more."""
        self.restarting = False
        for place in self.places:
            if place.child is not None:
                place.child.send(Drain())
            else:
                place.drained = True

    def kill_hung(self) -> None:
        """End frontends that do not answer any more; they are replaced."""
        frontends = [(place.child, place.started) for place in self.places if place.child is not None]
        for child, silent in hung_frontends(frontends, self._settings, self._loop.time()):
            logger.error("%s has not answered for %.1f s; it is killed", child.name, silent)
            self._metrics.hung_processes.labels("frontend").inc()
            child.kill()

    def send(self, message: Message) -> None:
        """Send a message to every frontend that there is."""
        for place in self.places:
            if place.child is not None:
                place.child.send(message)

    def tell_models(self, models: Mapping[str, list[ModelInfo]], *, ready: bool) -> None:
        """Tell the frontends what has changed: every version of a model at once, and whether the server is ready."""
        newest = {name: tuple(infos) for name, infos in models.items()}
        for place, child in self.listening:
            for name in [*newest, *(name for name in place.told if name not in newest)]:
                infos = newest.get(name, ())
                if place.told.get(name) != infos:
                    child.send(UpdateModel(model=name, versions=infos))
            if place.told_ready is not ready:
                child.send(UpdateReadiness(ready=ready))
            place.told, place.told_ready = newest, ready

    async def call_all(self, request: Request[Done], seconds: float) -> None:
        """Ask every frontend to do something, those that are starting too; returns when all have.

        One that ends meanwhile does not count: its successor is told anew.

        Raises:
            RepServeError: one of them could not.
        """
        called = [(place.peer, place) for place in self.places if place.peer is not None]
        responses = await asyncio.gather(*(peer.call(request, seconds) for peer, _ in called), return_exceptions=True)
        for (peer, place), response in zip(called, responses, strict=True):
            if place.peer is peer and isinstance(response, RepServeError):
                raise response

    def _start(self, place: FrontendPlace) -> None:
        place.starts += 1
        child = place.child = Child(
            f"frontend {place.index}.{place.starts}",
            "frontend",
            "repserve_server.frontend.process",
            FROM_FRONTEND,
            on_message=lambda child, message: self._take(place, child, message),
            on_exit=lambda child: self._end(place, child),
        )
        place.peer = Peer(child.send, self._events.handle)
        self._metrics.processes.add(child.pid, "frontend")
        settings = self._settings
        child.send(
            StartFrontend(
                identity=Identity(
                    process=f"frontend {place.index}",
                    log_level=self._log_level(),
                    log_format=settings.log_format,
                ),
                address=join_address(settings.host, self._ports[0]),
                host=settings.host,
                http_port=self._ports[1],
                decode_threads=settings.decode_thread_count,
                max_image_pixels=settings.max_image_pixels,
                default_timeout_seconds=settings.default_timeout_seconds,
                load_timeout_seconds=settings.load_timeout_seconds + settings.default_timeout_seconds,
                otlp_endpoint=settings.otlp_endpoint,
                trace_sample_ratio=settings.trace_sample_ratio,
                regions=tuple(self.regions()),
            )
        )

    def _take(self, place: FrontendPlace, child: FrontendChild, message: FromFrontend) -> None:
        match message:
            case Call() | Reply():
                if place.peer is not None:
                    place.peer.receive(message)
            case Started():
                self._take_started(place, child)
            case Retired():
                self._events.retired(place, message.revision)
            case Drained():
                place.drained = True
                self._events.changed()
            case MetricsReport():
                self._events.metrics(child, message)

    def _take_started(self, place: FrontendPlace, child: FrontendChild) -> None:
        place.started, place.started_at = True, self._loop.time()
        if child.asked_at is not None:
            # It could not answer before.
            child.asked_at = self._loop.time()
        if self._going:
            child.send(BecomeUnready())
        self._events.started(place, child)
        self._events.changed()

    def _end(self, place: FrontendPlace, child: FrontendChild) -> None:
        self._metrics.forget(child)
        if place.peer is not None:
            place.peer.close()
        for descriptor in place.areas.values():
            os.close(descriptor)
        served = self._loop.time() - place.started_at if place.started else 0.0
        place.areas, place.told, place.told_ready, place.started = {}, {}, None, False
        place.child = place.peer = None
        self._events.ended(place)
        if self.restarting:
            killed = child.returncode == -signal.SIGKILL
            delay = place.backoff.next_delay(served, killed=killed)
            logger.error("%s %s; starting it again in %.1f s", child.name, describe_exit(child.returncode), delay)
            self._metrics.restarts.labels("frontend").inc()
            self._loop.call_later(delay, self._restart, place)
        else:
            place.lost = not place.drained
            place.drained = True
        self._events.changed()

    def _restart(self, place: FrontendPlace) -> None:
        if not self.restarting:
            return
        try:
            self._start(place)
        except OSError:
            logger.exception("frontend %d cannot be started; trying again", place.index)
            self._loop.call_later(place.backoff.next_delay(), self._restart, place)
