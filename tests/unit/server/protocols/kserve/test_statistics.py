"""KServe's statistics, from the metrics that frontends and workers really count."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from repserve_server.channel.messages import CloseReason
from repserve_server.dataplane.dataplane import Scored
from repserve_server.dataplane.metrics import LAST_INFERENCE, FrontendMetrics
from repserve_server.errors import QueueFullError
from repserve_server.metrics import MergedCollector, Sample, take_snapshot
from repserve_server.protocols.kserve.statistics import SAMPLES, model_statistics
from repserve_server.worker.metrics import WorkerMetrics
from support.recorder_harness import DIGITS, Harness, in_loop, scores


def merged(**registries: CollectorRegistry) -> MergedCollector:
    found = MergedCollector()
    for name, registry in registries.items():
        found.update(name, take_snapshot(registry))
    return found


def test_the_statistics_of_a_model_are_its_series() -> None:
    async def test(harness: Harness) -> None:
        now = harness.clock.now
        with harness.record() as record:
            record.find(harness.models, "digits", "")
            harness.clock.advance(1.0)
            record.answered(Scored(harness.served.info, [scores(0.3, 0.2, now + 0.75)] * 2, 0.05))
        with pytest.raises(QueueFullError), harness.record() as record:  # noqa: PT012 - time passes in it
            record.find(harness.models, "digits", "")
            harness.clock.advance(0.125)
            raise QueueFullError("full")
        with pytest.raises(QueueFullError), harness.record():
            raise QueueFullError("not for any model")
        harness.metrics.show({}, 0)
        worker, other = (WorkerMetrics("digits", "1", device) for device in ("npu:0", "npu:1"))
        for metrics, images in ((worker, 2), (worker, 1), (other, 2)):
            metrics.count_batch(images, 4, CloseReason.FULL, 0.25)
        all_of = merged(frontend=harness.metrics.registry, worker=worker.registry, other=other.registry)
        (entry,) = model_statistics(all_of.samples(SAMPLES)).values()
        assert (entry["name"], entry["version"]) == ("digits", "1")
        assert (entry["inference_count"], entry["execution_count"]) == (2, 3)
        assert entry["inference_stats"] == {
            "success": {"count": 1, "ns": 1_000_000_000},
            "fail": {"count": 1, "ns": 125_000_000},
            "queue": {"count": 1, "ns": 300_000_000},
            "compute_input": {"count": 1, "ns": 50_000_000},
            "compute_infer": {"count": 1, "ns": 200_000_000},
            "compute_output": {"count": 1, "ns": 250_000_000},
        }
        assert entry["last_inference"] > 1_600_000_000_000
        assert entry["batch_stats"] == [
            {"batch_size": 1, "compute_infer": {"count": 1, "ns": 250_000_000}},
            {"batch_size": 2, "compute_infer": {"count": 2, "ns": 500_000_000}},
        ]

    in_loop(test)


def test_a_frontend_that_has_ended_counts_and_the_latest_inference_stays() -> None:
    found = MergedCollector()
    latest = 0.0
    for process, moment, images in (("a", 5.0, 3), ("b", 9.0, 4), ("c", 7.0, 1)):
        metrics = FrontendMetrics()
        model = metrics.for_model(*DIGITS.values())
        model.images.inc(images)
        model.last_inference = moment
        metrics.show({}, 0)
        latest = max(latest, metrics.registry.get_sample_value(LAST_INFERENCE.name, DIGITS) or 0.0)
        found.update(process, take_snapshot(metrics.registry))
        if process == "b":
            found.end(process)
    (entry,) = model_statistics(found.samples(SAMPLES)).values()
    assert (entry["inference_count"], entry["last_inference"]) == (8, int(latest * 1000))


def test_a_request_that_fails_while_the_series_are_collected_takes_no_time_from_the_successful_ones() -> None:
    samples = [
        Sample("repserve_request_seconds_sum", DIGITS, 0.1),
        Sample("repserve_failed_request_seconds_total", DIGITS, 0.3),
    ]
    (entry,) = model_statistics(samples).values()
    assert (entry["inference_stats"]["success"]["ns"], entry["inference_stats"]["fail"]["ns"]) == (0, 300_000_000)
