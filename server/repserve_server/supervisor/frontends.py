"""A place for a frontend process: what it was sent, and what it holds."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

from repserve_server.channel.frontend_messages import (
    BecomeUnready,
    Drain,
    OpenQueue,
    RetireRevision,
    StartFrontend,
    UpdateModel,
    UpdateReadiness,
)
from repserve_server.channel.message import Identity, Message
from repserve_server.channel.requests import Call, Region, RegisterRegion, UnregisterRegion
from repserve_server.channel.slots import SlotLayout, create_area_descriptor
from repserve_server.supervisor.kept_process import Context, KeptProcess, Wish
from repserve_server.supervisor.ports import join_address

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.supervisor.models import ModelVersion

SILENT_SECONDS = 10.0
"""A frontend may be silent for so long, however short ``liveness_timeout_seconds`` is: a new one would lack CPU too."""
START_SECONDS = 60.0
"""A frontend may be silent for so long while it starts."""


class Frontend(KeptProcess):
    """The frontend there now. One that does not answer serves nobody, though its port takes connections.

    Attributes:
        index: its number.
        drained: it has answered all that it had taken, or will answer nothing any more.
        lost: it died with requests unanswered during a drain.
        areas: descriptors of its slot areas, by revision.
        workers: names of the workers that it is connected with.
        regions: the regions that it was sent.
        calls: regions by the number of a call that it has not answered; None where the region is to be closed.
    """

    def __init__(self, index: int, context: Context) -> None:
        super().__init__("frontend", context)
        self.index = index
        self.drained = False
        self.lost = False
        self.areas: dict[int, int] = {}
        self.workers: set[str] = set()
        self.regions: dict[str, Region] = {}
        self.calls: dict[int, tuple[str, Region | None]] = {}
        self._numbers = itertools.count(1)
        self._retiring: set[int] = set()
        self._models: dict[str, tuple[ModelInfo, ...]] = {}
        self._ready: bool | None = None
        self._unready = self._draining = False

    @property
    def listens(self) -> bool:
        """Whether it has started and runs."""
        return self.in_service_since is not None

    @property
    @override
    def label(self) -> str:
        return f"frontend {self.index}"

    @property
    @override
    def silence_limit(self) -> float:
        """While it starts, and once it listens."""
        limit = max(self.context.wanted.settings.liveness_timeout_seconds, SILENT_SECONDS)
        return limit if self.listens else START_SECONDS

    @override
    def describe_hang(self, seconds: float) -> str:
        """Nothing is known of it."""
        return ""

    @override
    def first_message(self) -> StartFrontend:
        """Where to listen, and how."""
        wanted = self.context.wanted
        settings = wanted.settings
        self.regions = dict(wanted.regions)
        return StartFrontend(
            identity=Identity(process=self.label, log_level=wanted.log_level, log_format=settings.log_format),
            address=join_address(settings.host, wanted.ports[0]),
            host=settings.host,
            http_port=wanted.ports[1],
            decode_threads=settings.decode_thread_count,
            max_image_pixels=settings.max_image_pixels,
            default_timeout_seconds=settings.default_timeout_seconds,
            load_timeout_seconds=settings.load_timeout_seconds + settings.default_timeout_seconds,
            otlp_endpoint=settings.otlp_endpoint,
            trace_sample_ratio=settings.trace_sample_ratio,
            regions=tuple(wanted.regions.values()),
        )

    def take_started(self) -> None:
        """Note that it listens; it could not answer before."""
        self.in_service_since = self.context.clock()
        if self.requested_at is not None:
            self.requested_at = self.in_service_since

    def open(self, version: ModelVersion, layout: SlotLayout, best_image_seconds: float) -> int:
        """Give it its slot area of a version, and the version's labels; returns the area's descriptor."""
        if version.revision in self.areas:
            return self.areas[version.revision]
        area = create_area_descriptor(layout, f"repserve:{version.name}/{version.version}")
        folder = version.source.folder
        message = OpenQueue(
            model=version.name,
            version=version.version,
            revision=version.revision,
            labels=folder.labels,
            layout=layout,
            output=folder.config.output,
            best_image_seconds=best_image_seconds,
        )
        try:
            self._send(message, area)
        except OSError:
            os.close(area)
            raise
        self.areas[version.revision] = area
        return area

    def update(self, models: Mapping[str, tuple[ModelInfo, ...]], *, ready: bool) -> None:
        """Send it what has changed: every version of a model at once, and whether the server is ready."""
        if not self.listens:
            return
        for name in [*models, *(name for name in self._models if name not in models)]:
            versions = models.get(name, ())
            if self._models.get(name) != versions:
                self._send(UpdateModel(model=name, versions=versions))
        if self._ready is not ready:
            self._send(UpdateReadiness(ready=ready))
        self._models, self._ready = dict(models), ready

    def become_unready(self) -> None:
        """Have it report that it is not ready, and keep serving."""
        if self.listens and not self._unready:
            self._unready = True
            self._send(BecomeUnready())

    def drain(self) -> None:
        """Have it refuse new requests and answer those it has; once it has ended there is nothing to answer."""
        self.wish = Wish.FINISH
        if self.child is None:
            self.drained = True
        elif not self._draining:
            self._draining = True
            self._send(Drain())

    def retire(self, version: ModelVersion) -> None:
        """Have it answer what it has taken for a version, and then forget it."""
        if version.revision in self.areas and version.revision not in self._retiring:
            self._retiring.add(version.revision)
            self._send(RetireRevision(revision=version.revision))

    def take_retired(self, revision: int) -> None:
        """Note that it has answered everything it had admitted for a version."""
        self._retiring.discard(revision)
        os.close(self.areas.pop(revision))

    def update_regions(self) -> None:
        """Have it open and close regions, as is wanted."""
        wanted = self.context.wanted.regions
        if self.child is None or self.regions == wanted:
            return
        for name in [name for name, region in self.regions.items() if wanted.get(name) != region]:
            del self.regions[name]
            self._call(UnregisterRegion(name=name), name, None)
        for name, region in wanted.items():
            if name not in self.regions:
                self.regions[name] = region
                self._call(RegisterRegion(region=region), name, region)

    @override
    def exited(self, returncode: int) -> None:
        for area in self.areas.values():
            os.close(area)
        self.areas, self.regions, self.calls, self._models = {}, {}, {}, {}
        self.workers, self._retiring = set(), set()
        self._ready, self._unready, self._draining = None, False, False
        super().exited(returncode)
        if self.wish is Wish.FINISH:
            self.lost = not self.drained
            self.drained = True

    def _call(self, request: RegisterRegion | UnregisterRegion, name: str, region: Region | None) -> None:
        number = next(self._numbers)
        self.calls[number] = (name, region)
        self._send(Call(number=number, request=request))

    def _send(self, message: Message, *descriptors: int) -> None:
        if self.child is not None:
            self.child.send(message, descriptors)
