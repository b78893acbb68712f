"""The frontends: started, listened to, and started again when they end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from repserve_server.channel.dialogue import Answerer, Dialogue
from repserve_server.errors import RepServeError
from repserve_server.supervisor.backoff import Backoff
from repserve_server.supervisor.child import Child, describe_exit
from repserve_server.supervisor.ports import join_address
from repserve_server.supervisor.watchdog import hung_frontends

if TYPE_CHECKING:
    from repserve_server.channel.control import ControlMessage
    from repserve_server.dataplane.models import ModelInfo
    from repserve_server.settings import Settings
    from repserve_server.supervisor.metrics import ServerMetrics
    from repserve_server.supervisor.models import ModelVersion

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class FrontendPlace:
    """A place for a frontend process, and the process there now.

    Attributes:
        index: its number.
        child: the process, while there is one.
        dialogue: questions to it and from it.
        started: it listens on the port.
        started_at: when it began to, on the loop's clock.
        drained: it has answered all that it had taken, or will answer nothing any more.
        lost: it died with requests unanswered during a drain.
        areas: descriptors of its slot areas.
        listeners: the sockets on which it listens, held here too.
        told: what it was last told of each model.
        told_ready: whether it was last told that the server is ready.
        starts: how many processes were started here.
    """

    index: int
    child: Child | None = None
    dialogue: Dialogue | None = None
    started: bool = False
    started_at: float = 0.0
    drained: bool = False
    lost: bool = False
    areas: dict[ModelVersion, int] = field(default_factory=dict)
    listeners: list[socket.socket] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    told_ready: bool | None = None
    starts: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(time.monotonic))


@dataclass(frozen=True)
class FrontendEvents:
    """Whom the frontends' news concerns.

    Attributes:
        started: a frontend listens and is to learn of the models.
        retired: a frontend has answered all that a revision had taken.
        ended: a frontend's process has ended; its slot areas are closed, and its sockets listen on for whoever is told.
        changed: something changed that the supervisor may wait for.
        metrics: a child has sent its counts.
        answerers: what frontends may ask.
    """

    started: Callable[[FrontendPlace, Child], None]
    retired: Callable[[FrontendPlace, int], None]
    ended: Callable[[FrontendPlace, list[socket.socket]], None]
    changed: Callable[[], None]
    metrics: Callable[[Child, ControlMessage], None]
    answerers: Mapping[str, Answerer]


class Frontends:
    """Keeps the frontends running until a drain. ``ports`` are those of gRPC and of HTTP."""

    def __init__(
        self,
        settings: Settings,
        ports: tuple[int, int],
        metrics: ServerMetrics,
        events: FrontendEvents,
        log_level: Callable[[], str],
    ) -> None:
        self._settings, self._ports = settings, ports
        self._metrics, self._events = metrics, events
        self._loop = asyncio.get_running_loop()
        self.places = [FrontendPlace(index) for index in range(settings.frontend_count)]
        self.restarting = True
        self._going = False
        self._log_level = log_level
        self.serve_extras: Callable[[], dict[str, Any]] = dict
        """What a new frontend is told besides the settings."""

    @property
    def listening(self) -> list[tuple[FrontendPlace, Child]]:
        """Those that have started and run."""
        return [(place, place.child) for place in self.places if place.started and place.child is not None]

    def start(self) -> None:
        """Start every frontend."""
        for place in self.places:
            self._start(place)

    def go(self) -> None:
        """Have every frontend say that it is not ready, those that start later too; they take requests all the same."""
        self._going = True
        self.send("grace", {})

    def drain(self) -> None:
        """Have every frontend refuse new requests and answer those it has; one that dies is not replaced any more."""
        self.restarting = False
        for place in self.places:
            _close_all(place.listeners)
            place.listeners = []
            if place.child is not None:
                place.child.send("drain")
            else:
                place.drained = True

    def kill_hung(self) -> None:
        """End frontends that do not answer any more; they are replaced."""
        frontends = [(place.child, place.started) for place in self.places if place.child is not None]
        for child, silent in hung_frontends(frontends, self._settings, self._loop.time()):
            logger.error("%s has not answered for %.1f s; it is killed", child.name, silent)
            self._metrics.hung_processes.labels("frontend").inc()
            child.kill()

    def send(self, kind: str, body: dict[str, Any]) -> None:
        """Send a message to every frontend that there is."""
        for place in self.places:
            if place.child is not None:
                place.child.send(kind, body)

    def tell_models(self, models: Mapping[str, list[ModelInfo]], *, ready: bool) -> None:
        """Tell the frontends what has changed: every version of a model at once, and whether the server is ready."""
        bodies = {name: {"versions": [info.to_body() for info in infos]} for name, infos in models.items()}
        for place, child in self.listening:
            for name in [*bodies, *(name for name in place.told if name not in bodies)]:
                body = bodies.get(name, {"versions": []})
                if place.told.get(name) != body:
                    child.send("model", {"model": name, **body})
            if place.told_ready is not ready:
                child.send("ready", {"ready": ready})
            place.told, place.told_ready = bodies, ready

    async def ask_all(self, question: str, body: dict[str, Any], seconds: float) -> None:
        """Ask every frontend to do something, those that are starting too; returns when all have.

        One that ends meanwhile does not count: its successor is told anew.

        Raises:
            RepServeError: one of them could not.
        """
        asked = [(place.dialogue, place) for place in self.places if place.dialogue is not None]
        answers = await asyncio.gather(
            *(dialogue.ask(question, body, seconds) for dialogue, _ in asked), return_exceptions=True
        )
        for (dialogue, place), answer in zip(asked, answers, strict=True):
            if place.dialogue is dialogue and isinstance(answer, RepServeError):
                raise answer

    def _start(self, place: FrontendPlace) -> None:
        place.starts += 1
        child = place.child = Child(
            f"frontend {place.index}.{place.starts}",
            "frontend",
            "repserve_server.frontend.process",
            lambda child, message: self._hear(place, child, message),
            lambda child: self._end(place, child),
        )
        place.dialogue = Dialogue(child.send, self._events.answerers)
        self._metrics.processes.add(child.pid, "frontend")
        child.send(
            "serve",
            {
                "process": f"frontend {place.index}",
                "log_level": self._log_level(),
                "log_format": self._settings.log_format,
                "otlp_endpoint": self._settings.otlp_endpoint,
                "trace_sample_ratio": self._settings.trace_sample_ratio,
                "address": join_address(self._settings.host, self._ports[0]),
                "host": self._settings.host,
                "grpc_port": self._ports[0],
                "http_port": self._ports[1],
                "decode_threads": self._settings.decode_thread_count,
                "max_image_pixels": self._settings.max_image_pixels,
                "default_timeout_seconds": self._settings.default_timeout_seconds,
                "load_timeout_seconds": self._settings.load_timeout_seconds + self._settings.default_timeout_seconds,
                **self.serve_extras(),
            },
        )

    def _hear(self, place: FrontendPlace, child: Child, message: ControlMessage) -> None:
        if place.dialogue is not None and place.dialogue.take(message.kind, message.body):
            return
        if message.kind == "started":
            place.started, place.started_at = True, self._loop.time()
            if child.asked_at is not None:
                # It could not answer before.
                child.asked_at = self._loop.time()
            place.listeners = [socket.socket(fileno=descriptor) for descriptor in message.descriptors]
            if self._going:
                child.send("grace")
            self._events.started(place, child)
            self._events.changed()
        elif message.kind == "retired":
            self._events.retired(place, message.body["revision"])
        elif message.kind == "drained":
            place.drained = True
            self._events.changed()
        elif message.kind == "metrics":
            self._events.metrics(child, message)

    def _end(self, place: FrontendPlace, child: Child) -> None:
        self._metrics.forget(child)
        if place.dialogue is not None:
            place.dialogue.close()
        for descriptor in place.areas.values():
            os.close(descriptor)
        served = self._loop.time() - place.started_at if place.started else 0.0
        place.areas, place.told, place.told_ready, place.started = {}, {}, None, False
        place.child = place.dialogue = None
        if not self.restarting:
            # It was told to stop, and has shut them down.
            _close_all(place.listeners)
            place.listeners = []
        listeners, place.listeners = place.listeners, []
        self._events.ended(place, listeners)
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


def _close_all(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()
