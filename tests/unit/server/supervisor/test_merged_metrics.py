"""Counts of several processes as one: totals never fall, gauges go with their process, and Prometheus can read it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from repserve_server.channel.message import MetricsReport
from repserve_server.channel.messages import CloseReason, Outcome
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.metrics import MergedCollector, Snapshot, take_snapshot
from repserve_server.supervisor.metrics import ProcessCollector, ServerMetrics
from repserve_server.worker.metrics import WorkerMetrics
from support.harness import wait_until


def through_a_message(registry: CollectorRegistry) -> Snapshot:
    """A snapshot as it arrives in the supervisor."""
    sent = MetricsReport(snapshot=take_snapshot(registry))
    return MetricsReport.model_validate_json(sent.model_dump_json()).snapshot


class Process:
    """A process with a counter, a histogram and a gauge."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests.", ("code",), registry=self.registry)
        self.seconds = Histogram("seconds", "Seconds.", buckets=(1.0, 2.0), registry=self.registry)
        self.waiting = Gauge("waiting", "Waiting.", registry=self.registry)

    def snapshot(self) -> Snapshot:
        """As it arrives in the supervisor."""
        return through_a_message(self.registry)


def values(merged: MergedCollector) -> dict[tuple[str, str], float]:
    return {(s.name, repr(s.labels)): s.value for family in merged.collect() for s in family.samples}


def value(merged: MergedCollector, name: str, **labels: str) -> float | None:
    return values(merged).get((name, repr(labels)))


@pytest.mark.parametrize("ended", [False, True])
def test_the_series_of_a_version_can_be_dropped(ended: bool) -> None:
    merged, registry = MergedCollector(), CollectorRegistry()
    images = Counter("images", "Images.", ("model", "version"), registry=registry)
    for version in ("1", "2"):
        images.labels("digits", version).inc()
    merged.update("worker", through_a_message(registry))
    if ended:
        merged.end("worker")
    merged.forget({"model": "digits", "version": "1"})
    merged.end("worker")
    assert value(merged, "images_total", model="digits", version="1") is None
    assert value(merged, "images_total", model="digits", version="2") == 1


def test_processes_add_up() -> None:
    merged, first, second = MergedCollector(), Process(), Process()
    first.requests.labels("OK").inc(3)
    second.requests.labels("OK").inc(4)
    second.requests.labels("INTERNAL").inc()
    first.seconds.observe(0.5)
    second.seconds.observe(1.5)
    first.waiting.set(2)
    second.waiting.set(5)
    merged.update("frontend 0.1", first.snapshot())
    merged.update("frontend 1.1", second.snapshot())
    assert value(merged, "requests_total", code="OK") == 7
    assert value(merged, "requests_total", code="INTERNAL") == 1
    assert value(merged, "seconds_bucket", le="1.0") == 1
    assert value(merged, "seconds_bucket", le="+Inf") == 2
    assert value(merged, "seconds_sum") == 2.0
    assert value(merged, "waiting") == 7


def test_a_newer_snapshot_replaces_the_older() -> None:
    merged, process = MergedCollector(), Process()
    for _ in range(3):
        process.requests.labels("OK").inc()
        merged.update("frontend 0.1", process.snapshot())
    assert value(merged, "requests_total", code="OK") == 3


def test_totals_of_an_ended_process_stay_and_its_gauges_go() -> None:
    merged, process = MergedCollector(), Process()
    process.requests.labels("OK").inc(3)
    process.seconds.observe(0.5)
    process.waiting.set(9)
    merged.update("frontend 0.1", process.snapshot())
    merged.end("frontend 0.1")
    assert value(merged, "requests_total", code="OK") == 3
    assert value(merged, "seconds_count") == 1
    assert value(merged, "waiting") is None
    merged.update("frontend 0.2", Process().snapshot())
    assert value(merged, "seconds_count") == 1
    merged.end("never known")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["count", "update", "end"])), max_size=30))
def test_totals_never_fall(steps: list[tuple[int, str]]) -> None:
    merged, processes, starts = MergedCollector(), [Process() for _ in range(3)], [1, 1, 1]
    last = 0.0
    for index, step in steps:
        if step == "count":
            processes[index].requests.labels("OK").inc()
        elif step == "update":
            merged.update(f"worker {index}.{starts[index]}", processes[index].snapshot())
        else:
            merged.end(f"worker {index}.{starts[index]}")
            processes[index] = Process()
            starts[index] += 1
        total = value(merged, "requests_total", code="OK") or 0.0
        assert total >= last
        last = total


def test_the_largest_error_of_two_simulated_devices_is_not_their_sum() -> None:
    merged = MergedCollector()
    for index in range(2):
        metrics = WorkerMetrics("a0", "1", "sim:310p", index)
        metrics.set_figures({"max": 0.002})
        merged.update(f"worker {index}", take_snapshot(metrics.registry))
    labels = {"model": "a0", "version": "1", "device": "sim:310p"}
    for index in range(2):
        shown = value(merged, "repserve_simulated_sleep_error_seconds", **labels, worker=str(index), statistic="max")
        assert shown == 0.002


def test_what_the_server_shows_can_be_read_by_prometheus() -> None:
    server = ServerMetrics()
    frontend, worker = FrontendMetrics(), WorkerMetrics("digits", "1", "cpu")
    model = frontend.for_model("digits", "1")
    model.begin(("grpc", "Classify"))
    model.end(("grpc", "Classify"), "OK", 0.01, "")
    frontend.show({("digits", "1"): 3}, 2)
    worker.count_batch(5, 16, CloseReason.CHEAPEST, 0.02)
    worker.count_unrun(2, Outcome.EXPIRED)
    server.children.update("frontend 0.1", through_a_message(frontend.registry))
    server.children.update("worker", through_a_message(worker.registry))
    server.children.end("worker")
    text = generate_latest(server.registry).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    of_model = (("model", "digits"), ("version", "1"))
    request = (("code", "OK"), ("method", "Classify"), *of_model[:1], ("protocol", "grpc"), of_model[1])
    assert samples[("repserve_requests_total", *request)] == 1
    assert samples[("repserve_queue_images", *of_model)] == 3
    assert samples[("repserve_padding_images_total", ("device", "cpu"), *of_model)] == 11
    assert (
        samples[("repserve_dropped_images_total", ("device", "cpu"), *of_model[:1], ("reason", "expired"), of_model[1])]
        == 2
    )
    assert samples[("repserve_batch_size_count", ("device", "cpu"), *of_model)] == 1
    assert samples["repserve_process_cpu_seconds_total", ("role", "supervisor")] > 0


def test_the_cpu_time_of_a_process_that_is_gone_does_not_fall() -> None:
    process = subprocess.Popen([sys.executable, "-c", "sum(range(50_000_000)); input()"], stdin=subprocess.PIPE)
    collector, registry = ProcessCollector(), CollectorRegistry()
    registry.register(collector)
    collector.add(process.pid, "worker")

    def seconds() -> float:
        return registry.get_sample_value("repserve_process_cpu_seconds_total", {"role": "worker"}) or 0.0

    wait_until(lambda: seconds() > 0.05, "it has used CPU time")
    before = seconds()
    process.communicate()
    assert seconds() >= before, "gone, and the server has not noticed yet"
    collector.end(process.pid)
    assert seconds() >= before
    assert registry.get_sample_value("repserve_process_resident_memory_bytes", {"role": "worker"}) is None
