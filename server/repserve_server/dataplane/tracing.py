"""OpenTelemetry spans: one for each traced request, with its decoding, queue and batches as children."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

    from repserve_server.dataplane.scores import ImageScores

SERVICE = "repserve"
NANOSECONDS = 1e9


class Tracing:
    """Begins spans and sends the ended ones to a collector, in a thread of its own.

    The ``traceparent`` (W3C Trace Context) of a request decides whether it is traced. Of requests without one, a share
    is.

    Args:
        endpoint: URL of an OTLP collector over gRPC, such as http://127.0.0.1:4317.
        share: how many of the requests without a ``traceparent`` are traced, 0 to 1.
        exporter: takes the spans in place of the collector, in tests.
    """

    def __init__(self, endpoint: str, share: float, exporter: SpanExporter | None = None) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({"service.name": SERVICE}),
            shutdown_on_exit=False,
        )
        insecure = not endpoint.startswith("https:")
        chosen = exporter or OTLPSpanExporter(endpoint=endpoint, insecure=insecure)
        self._provider.add_span_processor(BatchSpanProcessor(chosen))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, headers: Mapping[str, str]) -> RequestSpan | None:
        """Begin the span of a request that arrives now; None when it is not traced.

        Args:
            method: what was called.
            headers: of the request, in lower case.
        """
        from opentelemetry.trace import SpanKind

        parent = self._propagator.extract(headers)
        span = self._tracer.start_span(method, context=parent, kind=SpanKind.SERVER)
        return RequestSpan(self._tracer, span) if span.is_recording() else None

    def close(self, seconds: float) -> None:
        """Send the remaining spans, if the collector takes them within so many seconds."""
        # It retries a collector that does not respond for longer than a server may take to stop.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(seconds)


class RequestSpan:
    """The span of one request."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span

    def describe(self, model: str, version: str) -> None:
        """Name the model that the request is for."""
        self._span.set_attributes({"repserve.model": model, "repserve.version": version})

    def record(self, images: Sequence[ImageScores], decode_seconds: float) -> None:
        """Add the stages of a successful request, from the times that workers report.

        Decoding is shown right before its image began to wait; the times of several images are added up.
        """
        from opentelemetry.trace import set_span_in_context

        offset = time.time() - time.monotonic()
        context = set_span_in_context(self._span)

        def stage(name: str, start: float, end: float, **attributes: Any) -> None:  # noqa: ANN401 - OpenTelemetry's
            span = self._tracer.start_span(
                name, context, attributes=attributes, start_time=int((start + offset) * NANOSECONDS)
            )
            span.end(int((end + offset) * NANOSECONDS))

        self._span.set_attribute("repserve.images", len(images))
        submitted = min(image.finished - image.compute_seconds - image.queue_seconds for image in images)
        if decode_seconds:
            stage("decode", submitted - decode_seconds, submitted)
        batches = {id(image.batch): image for image in images}
        for image in batches.values():
            started = image.finished - image.compute_seconds
            stage("queue", started - image.queue_seconds, started)
            stage("batch", started, image.finished, **{"repserve.batch_size": image.batch_size})

    def end(self, code: str) -> None:
        """End the span of a request that is answered with this gRPC status."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            self._span.set_status(StatusCode.ERROR, code)
        self._span.end()
