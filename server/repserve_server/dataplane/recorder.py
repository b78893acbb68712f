"""The record of a request: one ``with`` block counts it, times it and traces it, whichever way it came in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from repserve_server.errors import RepServeError

if TYPE_CHECKING:
    from repserve_server.dataplane.dataplane import Scored
    from repserve_server.dataplane.metrics import FrontendMetrics, Method, ModelMetrics, RequestMetrics
    from repserve_server.dataplane.models import ModelTable, ServedModel
    from repserve_server.dataplane.tracing import RequestSpan, Tracing

_SOONER, _SLACK_SECONDS = 0.99, 0.02
"""A client whose deadline passes cancels its call, a little before the deadline that the server knows.

gRPC rounds the remaining time up, and the request was on its way for a moment.
"""


class Recorder:
    """Records the requests to a frontend.

    Args:
        metrics: where they are counted.
        tracing: where they are traced; None if they are not.
        clock: the clock of deadlines and workers.
    """

    def __init__(
        self, metrics: FrontendMetrics, tracing: Tracing | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics, self._tracing, self.clock = metrics, tracing, clock

    def request(
        self,
        protocol: str,
        method: str,
        headers: Callable[[], Mapping[str, str]],
        remaining: float | None = None,
    ) -> RequestRecord:
        """Begin the record of a request that arrives now.

        Args:
            protocol: ``grpc`` or ``http``.
            method: the name of the RPC; over HTTP, of the equivalent RPC.
            headers: returns the request's headers, in lower case; called only if requests are traced.
            remaining: seconds until the client's deadline, when gRPC cancels the request.
        """
        span = None if self._tracing is None else self._tracing.begin(method, headers())
        return RequestRecord(self, (protocol, method), remaining, span)


class RequestRecord:
    """The record of one request, as a ``with`` block. An exception from the block is how the request ends."""

    __slots__ = ("_method", "_metrics", "_model", "_recorder", "_remaining", "_scored", "_span", "started")

    def __init__(self, recorder: Recorder, method: Method, remaining: float | None, span: RequestSpan | None) -> None:
        self._recorder, self._method, self._remaining, self._span = recorder, method, remaining, span
        self._metrics: RequestMetrics = recorder.metrics.unknown
        self._model: ModelMetrics | None = None
        self._scored: Scored | None = None
        self.started = recorder.clock()
        """When the request arrived."""

    def find(self, models: ModelTable, name: str, version: str) -> ServedModel:
        """Look up the model version that the request is for, and count the request for it from now on.

        Raises:
            RepServeError: there is no such model, or it is not ready.
        """
        try:
            served = models.find(name, version)
        except RepServeError:
            self._metrics = self._recorder.metrics.find(name, version)
            self._metrics.begin(self._method)
            raise
        self._metrics = self._model = served.queue.metrics
        self._metrics.begin(self._method)
        if self._span is not None:
            self._span.describe(served.info.name, served.info.version)
        return served

    def answered(self, scored: Scored) -> Scored:
        """Note the scores that the response is made from, and return them."""
        self._scored = scored
        return scored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        now = self._recorder.clock()
        seconds = now - self.started
        code, rejection = ("OK", "") if error is None else self._judge(error, seconds)
        self._metrics.end(self._method, code, seconds, rejection)
        if error is None and self._model is not None and self._scored is not None:
            _count(self._model, self._scored, now)
        if self._span is not None:
            if self._scored is not None:
                self._span.record(self._scored.images, self._scored.decode_seconds)
            self._span.end(code)

    def _judge(self, error: BaseException, seconds: float) -> tuple[str, str]:
        """Return the code of a failed request, and why it was rejected if it was."""
        if isinstance(error, RepServeError):
            return error.status.name, error.rejection
        if isinstance(error, asyncio.CancelledError):
            late = self._remaining is not None and seconds >= _SOONER * self._remaining - _SLACK_SECONDS
            return "DEADLINE_EXCEEDED" if late else "CANCELLED", ""
        return "CANCELLED" if isinstance(error, ConnectionError) else "INTERNAL", ""


def _count(model: ModelMetrics, scored: Scored, now: float) -> None:
    """Count the images and the stages of a successful request.

    The images of a request may run in several batches, one after the other: the last one counts.
    """
    images = scored.images
    last = images[0] if len(images) == 1 else max(images, key=attrgetter("finished"))
    reply = max(0.0, now - last.finished)
    model.images.inc(len(images))
    model.reply_seconds.observe(reply)
    stages = model.stage_seconds
    stages[0] += last.queue_seconds
    stages[1] += scored.decode_seconds
    stages[2] += last.compute_seconds
    stages[3] += reply
    model.last_inference = now
