"""KServe's statistics, from the metrics that frontends and workers really count."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from repserve_server.channel.messages import CloseReason
from repserve_server.dataplane.dataplane import Scored
from repserve_server.dataplane.metrics import LAST_INFERENCE, FrontendMetrics
from repserve_server.dataplane.statistics import SAMPLES, Duration, model_statistics
from repserve_server.errors import QueueFullError
from repserve_server.metrics import MergedCollector, take_snapshot
from repserve_server.worker.metrics import WorkerMetrics
from unit.server.dataplane.test_recorder import DIGITS, Harness, in_loop, scores


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
        (entry,) = model_statistics(all_of.samples(SAMPLES))
        assert (entry.name, entry.version, entry.inferences) == ("digits", "1", 2)
        assert entry.success == Duration(1, 1_000_000_000)
        assert entry.fail == Duration(1, 125_000_000)
        assert entry.queue == Duration(1, 300_000_000)
        assert entry.compute_input == Duration(1, 50_000_000)
        assert entry.compute_infer == Duration(1, 200_000_000)
        assert entry.compute_output == Duration(1, 250_000_000)
        assert entry.last_inference > 1_600_000_000_000
        assert entry.batches == {1: Duration(1, 250_000_000), 2: Duration(2, 500_000_000)}

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
    (entry,) = model_statistics(found.samples(SAMPLES))
    assert (entry.inferences, entry.last_inference) == (8, int(latest * 1000))
