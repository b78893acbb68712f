"""Calls from frontends, on behalf of clients: the same response whichever frontend makes them.

Many wait for a state, such as a model that is loaded: each call has a condition, which is evaluated whenever something
has happened.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from repserve_server.channel.calls import attempt
from repserve_server.channel.requests import (
    AnyRequest,
    AnyResponse,
    Call,
    ChangeLogLevel,
    CurrentLogLevel,
    Done,
    Failure,
    Figures,
    GetFigures,
    ListRegions,
    LoadModel,
    RegionList,
    RegisterRegion,
    Reply,
    UnloadModel,
    UnregisterRegion,
)
from repserve_server.errors import (
    ModelNotFoundError,
    NotAllowedError,
)
from repserve_server.logs import set_log_level

if TYPE_CHECKING:
    from repserve_server.supervisor.catalogue import Catalogue
    from repserve_server.supervisor.events import ModelScanned
    from repserve_server.supervisor.frontends import Frontend
    from repserve_server.supervisor.kept_process import Context
    from repserve_server.supervisor.models import ModelVersion
    from repserve_server.supervisor.polling import MetricsPolling
    from repserve_server.supervisor.regions import RegionTable

logger = logging.getLogger(__name__)

Condition = Callable[[], AnyResponse | None]
"""The response, or None as long as there is none; raises RepServeError where the request cannot be met."""


class ModelReader(Protocol):
    """Reads folders of the repository beside the event loop."""

    def read(self, name: str, request: int) -> None:
        """Read a model's folder; the event ``ModelScanned`` has the result."""
        ...


@dataclass(frozen=True)
class _Waiting:
    """A call whose response is not there yet, and the process that made it."""

    frontend: Frontend
    process: str
    number: int
    request: AnyRequest
    condition: Condition


@dataclass
class _Loading:
    """A model that is to be loaded: what its folder holds, once that is read, and the versions to wait for."""

    scanned: ModelScanned | None = None
    versions: Sequence[ModelVersion] = ()


class Calls:
    """Answers them."""

    def __init__(
        self, context: Context, catalogue: Catalogue, regions: RegionTable, polling: MetricsPolling, reader: ModelReader
    ) -> None:
        self._context, self._catalogue, self._regions = context, catalogue, regions
        self._polling, self._reader = polling, reader
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count(1)
        self._loading: dict[int, _Loading] = {}

    def take(self, frontend: Frontend, call: Call) -> None:
        """Begin to do what a call asks for."""
        if frontend.child is None:
            return
        started = attempt(call.request, lambda: self._begin(call.request))
        condition = _at_once(started) if isinstance(started, Failure) else started
        self._waiting.append(_Waiting(frontend, frontend.child.name, call.number, call.request, condition))

    def take_folder(self, scanned: ModelScanned) -> None:
        """Load what is in a model's folder, which has been read."""
        loading = self._loading.pop(scanned.request)
        loading.scanned = scanned
        if scanned.folder is not None:
            logger.info("model %r is to be loaded, by request", scanned.folder.name)
            loading.versions = self._catalogue.load(scanned.folder)

    def reconcile(self) -> None:
        """Send the responses that are there."""
        for call in tuple(self._waiting):
            child = call.frontend.child
            response = attempt(call.request, call.condition)
            if response is None:
                continue
            self._waiting.remove(call)
            if child is not None and child.name == call.process:
                child.send(Reply(number=call.number, response=response))

    def _begin(self, request: AnyRequest) -> Condition:  # noqa: PLR0911 - one for each request
        match request:
            case LoadModel():
                return self._load(request.model)
            case UnloadModel():
                return self._unload(request.model)
            case RegisterRegion():
                return self._regions.register(request.region)
            case UnregisterRegion():
                return self._regions.unregister(request.name)
            case ListRegions():
                regions = self._context.wanted.regions
                return _at_once(RegionList(regions=tuple(regions[name] for name in sorted(regions))))
            case ChangeLogLevel():
                return _at_once(self._change_log_level(request))
            case GetFigures():
                counted = self._polling.collect()
                return lambda: self._figures(request.samples) if counted() else None

    def _load(self, name: str) -> Condition:
        self._check_explicit("load")
        root = self._context.wanted.settings.model_repository
        if name in ("", ".", "..") or "/" in name or "\0" in name or not (root / name).is_dir():
            raise ModelNotFoundError(f"the model repository has no folder {name!r}")
        loading = _Loading()
        number = next(self._numbers)
        self._loading[number] = loading
        self._reader.read(name, number)
        return lambda: self._loaded(loading)

    def _loaded(self, loading: _Loading) -> Done | None:
        if loading.scanned is None:
            return None
        if loading.scanned.folder is None:
            raise ModelNotFoundError(loading.scanned.problem)
        return Done() if self._catalogue.check_loaded(loading.scanned.folder, loading.versions) else None

    def _unload(self, name: str) -> Condition:
        self._check_explicit("unload")
        logger.info("model %r is to be unloaded, by request", name)
        versions = self._catalogue.unload(name)
        return lambda: Done() if all(version.gone for version in versions) else None

    def _change_log_level(self, request: ChangeLogLevel) -> CurrentLogLevel:
        wanted = self._context.wanted
        if request.level is not None:
            wanted.log_level = request.level
            set_log_level(request.level)
        return CurrentLogLevel(level=wanted.log_level)

    def _figures(self, names: Sequence[str]) -> Figures:
        return Figures(
            seconds=time.monotonic(),
            model_control_mode=self._context.wanted.settings.model_control_mode,
            samples=tuple(self._context.metrics.children.samples(names)),
        )

    def _check_explicit(self, what: str) -> None:
        mode = self._context.wanted.settings.model_control_mode
        if mode != "explicit":
            raise NotAllowedError(
                f"models cannot be {what}ed by request when model_control_mode is {mode!r}; change the repository's "
                "folders, or start the server with --model-control-mode explicit"
            )


def _at_once(response: AnyResponse) -> Condition:
    return lambda: response
