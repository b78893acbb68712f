"""A server that sends its traces to a collector, and JSON logs that name the request that failed."""

from __future__ import annotations

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from repserve_protos.v1 import classification_pb2 as pb
from support.faulty_runtimes import NOT_A_NUMBER
from support.harness import RunningServer, digit_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

service = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="OpenTelemetry is not installed"
)
stubs = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
WAIT = 20.0
CLIENT_SPAN = "00f067aa0ba902b7"


def traceparent(number: int) -> tuple[str, str]:
    return ("traceparent", f"00-{number:032x}-{CLIENT_SPAN}-01")


class Collector(stubs.TraceServiceServicer):  # type: ignore[misc, name-defined]
    """Takes spans as an OTLP collector does."""

    def __init__(self) -> None:
        self._spans: list[Any] = []
        self._changed = Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        stubs.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(WAIT)

    def Export(self, request: Any, _: grpc.ServicerContext) -> Any:  # noqa: N802, ANN401 - gRPC's name, generated
        with self._changed:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self._spans += scope.spans
            self._changed.notify_all()
        return service.ExportTraceServiceResponse()

    def trace(self, number: int, spans: int) -> dict[str, Any]:
        """The spans of a trace by their name, once there are so many."""

        def found() -> dict[str, Any]:
            return {span.name: span for span in self._spans if int.from_bytes(span.trace_id, "big") == number}

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= spans, WAIT), f"got {list(found())}"
            return found()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[RunningServer]:
    arguments = ("--otlp-endpoint", f"http://127.0.0.1:{collector.port}", "--trace-sample-ratio", "0")
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "200"}
    with RunningServer("--model", "repvgg_digits", *arguments, environment=environment) as running:
        yield running


def check(spans: dict[str, Any], method: str) -> None:
    assert set(spans) == {method, "decode", "queue", "batch"}
    request = spans[method]
    assert request.parent_span_id.hex() == CLIENT_SPAN
    for stage in ("decode", "queue", "batch"):
        assert spans[stage].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[stage].end_time_unix_nano <= request.end_time_unix_nano
    assert abs(request.start_time_unix_nano / 1e9 - time.time()) < 60
    batch = {entry.key: entry.value.int_value for entry in spans["batch"].attributes}
    assert batch["repserve.batch_size"] == 1


def test_a_request_over_grpc(server: RunningServer, collector: Collector) -> None:
    request = pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes())
    server.stub().Classify(request, metadata=(traceparent(1),), timeout=WAIT)
    check(collector.trace(1, 4), "Classify")


def test_a_request_of_a_stream(server: RunningServer, collector: Collector) -> None:
    request = pb.ClassifyStreamRequest(id=7, request=pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes()))
    answers = list(server.stub().ClassifyStream(iter([request]), metadata=(traceparent(2),), timeout=WAIT))
    assert answers[0].id == 7
    check(collector.trace(2, 4), "ClassifyStream")


def test_a_request_over_http(server: RunningServer, collector: Collector) -> None:
    import base64

    data = base64.b64encode(digit_files()[0].read_bytes()).decode()
    body = {"inputs": [{"name": "IMAGE", "datatype": "BYTES", "shape": [1], "data": [{"b64": data}]}]}
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{server.http_url}/v2/models/repvgg_digits/infer", json.dumps(body).encode(), dict([traceparent(3)])
    )
    with urllib.request.urlopen(request, timeout=WAIT) as reply:  # noqa: S310 - our own server
        assert reply.status == 200
    check(collector.trace(3, 4), "ModelInfer")


def test_a_refused_request_is_an_error(server: RunningServer, collector: Collector) -> None:
    with pytest.raises(grpc.RpcError):
        server.stub().Classify(pb.ClassifyRequest(encoded_image=b"no image"), metadata=(traceparent(4),), timeout=WAIT)
    (span,) = collector.trace(4, 1).values()
    assert (span.status.code, span.status.message) == (2, "INVALID_ARGUMENT")


def test_without_a_collector_requests_are_answered_and_the_server_stops() -> None:
    with RunningServer("--model", "repvgg_digits", "--otlp-endpoint", "http://127.0.0.1:1") as server:
        request = pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes())
        assert server.stub().Classify(request, timeout=WAIT).predictions
        started = time.monotonic()
        assert server.signal_and_wait(15) == 0
        assert time.monotonic() - started < 15


def test_a_failed_request_is_a_line_of_json_with_its_id(tmp_path: Path) -> None:
    (tmp_path / "faulty" / "1").mkdir(parents=True)
    (tmp_path / "faulty" / "1" / "model.onnx").touch()
    arguments = ("--runtime", "support.faulty_runtimes:FaultyRuntime", "--log-format", "json")
    with RunningServer(*arguments, repository=tmp_path) as server:
        pixels = pb.Pixels(count=1, data=bytes([NOT_A_NUMBER]) + bytes(224 * 224 * 3 - 1))
        with pytest.raises(grpc.RpcError):
            server.stub().Classify(
                pb.ClassifyRequest(pixels=pixels), metadata=(("x-request-id", "order-17"),), timeout=WAIT
            )
        with pytest.raises(grpc.RpcError):
            server.stub().Classify(pb.ClassifyRequest(), metadata=(("x-request-id", "order-18"),), timeout=WAIT)
        lines = [json.loads(line) for line in server.log.splitlines()]
    failed = [line for line in lines if "request_id" in line]
    assert [(line["request_id"], line["method"], line["code"]) for line in failed] == [
        ("order-17", "Classify", "INTERNAL")
    ], "a client's own mistake is not logged"
