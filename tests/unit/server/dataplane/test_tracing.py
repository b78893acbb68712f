from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_server.dataplane.scores import BatchScores, ImageScores
from repserve_server.dataplane.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

memory = pytest.importorskip(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="OpenTelemetry is not installed"
)
TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MILLISECOND = 1_000_000


class Traced:
    def __init__(self, share: float = 1.0) -> None:
        self._exporter = memory.InMemorySpanExporter()
        self.tracing = Tracing("http://127.0.0.1:1", share, self._exporter)

    def spans(self) -> dict[str, list[ReadableSpan]]:
        """The ended spans by their name."""
        self.tracing.close(10)
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    found = Traced()
    yield found
    found.tracing.close(10)


def scores(batch: BatchScores, row: int, finished: float) -> ImageScores:
    return ImageScores(batch, row, 2, queue_seconds=0.010, compute_seconds=0.020, finished=finished)


def milliseconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / MILLISECOND


def test_a_request_has_its_stages_below_it(traced: Traced) -> None:
    span = traced.tracing.begin("Classify", {})
    assert span is not None
    batch, other = (BatchScores(np.zeros((2, 3), np.float32), "logits") for _ in range(2))
    now = time.monotonic()
    images = [scores(batch, 0, now), scores(batch, 1, now), scores(other, 0, now + 0.02)]
    span.describe("digits", "1")
    span.record(images, 0.005)
    span.end("OK")
    spans = traced.spans()
    assert {name: len(found) for name, found in spans.items()} == {"Classify": 1, "decode": 1, "queue": 2, "batch": 2}
    (request,) = spans["Classify"]
    assert request.attributes is not None
    assert request.attributes["repserve.images"] == 3
    assert request.attributes["repserve.model"] == "digits"
    assert request.attributes["rpc.response.status_code"] == "OK"
    for child in (*spans["decode"], *spans["queue"], *spans["batch"]):
        assert child.parent is not None
        assert child.parent.span_id == request.context.span_id
    assert milliseconds(spans["decode"][0]) == pytest.approx(5, abs=0.01)
    assert milliseconds(spans["queue"][0]) == pytest.approx(10, abs=0.01)
    assert milliseconds(spans["batch"][0]) == pytest.approx(20, abs=0.01)
    assert spans["batch"][0].attributes is not None
    assert spans["batch"][0].attributes["repserve.batch_size"] == 2
    assert spans["queue"][0].end_time == spans["batch"][0].start_time


def test_a_request_hangs_below_the_clients_span(traced: Traced) -> None:
    span = traced.tracing.begin("Classify", {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"})
    assert span is not None
    span.end("NOT_FOUND")
    (request,) = traced.spans()["Classify"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CLIENT_SPAN
    assert request.status.description == "NOT_FOUND"


def test_a_client_that_does_not_trace_is_believed(traced: Traced) -> None:
    assert traced.tracing.begin("Classify", {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-00"}) is None


def test_a_share_of_0_traces_only_who_asks_for_it() -> None:
    traced = Traced(share=0.0)
    assert traced.tracing.begin("Classify", {}) is None
    assert traced.tracing.begin("Classify", {"traceparent": "nonsense"}) is None
    asked = traced.tracing.begin("Classify", {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"})
    assert asked is not None
    asked.end("OK")
    assert list(traced.spans()) == ["Classify"]
