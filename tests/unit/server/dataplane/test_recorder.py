"""The account of a request: by which status, for which model, in which stages, and whether it was rejected."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from repserve_server.channel.model_info import ModelInfo
from repserve_server.dataplane.dataplane import Scored
from repserve_server.errors import InternalError, ModelNotFoundError, ModelUnavailableError, QueueFullError
from support.recorder_harness import DIGITS, METHOD, UNKNOWN, Harness, in_loop, scores


def test_a_request_of_several_batches_counts_once_with_the_stages_of_the_last() -> None:
    async def test(harness: Harness) -> None:
        now = harness.clock.now
        with harness.record() as record:
            info = record.find(harness.models, "digits", "").info
            harness.clock.advance(1.0)
            images = [scores(0.1, 0.2, now + 0.5), scores(0.3, 0.2, now + 0.75)]
            record.answered(Scored(info, images, 0.05))
        for _ in range(2):
            harness.metrics.show({}, 0)
        assert harness.requests("OK") == 1
        assert harness.value("repserve_images_total", DIGITS) == 2
        assert harness.value("repserve_request_seconds_sum", DIGITS, METHOD) == 1.0
        assert harness.value("repserve_reply_seconds_sum", DIGITS) == 0.25
        stages = {"queue": 0.3, "compute_input": 0.05, "compute_infer": 0.2, "compute_output": 0.25}
        found = {stage: harness.value("repserve_request_stage_seconds_total", DIGITS, stage=stage) for stage in stages}
        assert found == stages
        assert harness.value("repserve_failed_request_seconds_total", DIGITS) == 0

    in_loop(test)


def test_the_time_of_the_last_inference_is_shown() -> None:
    async def test(harness: Harness) -> None:
        harness.metrics.show({}, 0)
        assert harness.value("repserve_last_inference_timestamp_seconds", DIGITS) == 0
        with harness.record() as record:
            record.find(harness.models, "digits", "")
            record.answered(Scored(harness.served.info, [scores(0.1, 0.2, 0.0)]))
        harness.metrics.show({}, 0)
        assert harness.value("repserve_last_inference_timestamp_seconds", DIGITS)

    in_loop(test)


@pytest.mark.parametrize(
    ("error", "code", "rejection"),
    [
        (QueueFullError("full"), "RESOURCE_EXHAUSTED", "queue_full"),
        (InternalError("broken"), "INTERNAL", ""),
        (ZeroDivisionError(), "INTERNAL", ""),
        (ConnectionResetError(), "CANCELLED", ""),
    ],
)
def test_a_failed_request_counts_for_its_model(error: Exception, code: str, rejection: str) -> None:
    async def test(harness: Harness) -> None:
        with pytest.raises(type(error)), harness.record() as record:  # noqa: PT012 - time passes in it
            record.find(harness.models, "digits", "1")
            harness.clock.advance(0.5)
            raise error
        assert harness.requests(code) == 1
        assert harness.requests("OK") == 0, "it starts at 0, so that the first one is an increase"
        assert harness.value("repserve_failed_request_seconds_total", DIGITS) == 0.5
        assert harness.value("repserve_images_total", DIGITS) == 0
        for reason in ("queue_full", "unknown_model"):
            count = harness.value("repserve_rejected_requests_total", DIGITS, reason=reason)
            assert count == float(reason == rejection)

    in_loop(test)


def test_a_request_for_an_unknown_model_makes_no_series() -> None:
    async def test(harness: Harness) -> None:
        for name, version in (("cats", ""), ("digits", "7")):
            with pytest.raises(ModelNotFoundError), harness.record() as record:
                record.find(harness.models, name, version)
        assert harness.requests("NOT_FOUND", UNKNOWN) == 2
        assert harness.value("repserve_rejected_requests_total", UNKNOWN, reason="unknown_model") == 2
        models = {s.labels.get("model") for family in harness.metrics.registry.collect() for s in family.samples}
        assert models - {None} == {"", "digits"}

    in_loop(test)


def test_a_request_for_a_model_that_has_failed_counts_for_it() -> None:
    async def test(harness: Harness) -> None:
        harness.models.update([replace(harness.served.info, state="failed")])
        for version in ("", "1"):
            with pytest.raises(ModelUnavailableError), harness.record() as record:
                record.find(harness.models, "digits", version)
        assert harness.requests("UNAVAILABLE") == 2
        harness.models.update([ModelInfo("cats", "1", "loading", "")])
        with pytest.raises(ModelUnavailableError), harness.record() as record:
            record.find(harness.models, "cats", "")
        assert harness.requests("UNAVAILABLE", UNKNOWN) == 1

    in_loop(test)


@pytest.mark.parametrize(
    ("remaining", "code"),
    [(None, "CANCELLED"), (60.0, "CANCELLED"), (0.0, "DEADLINE_EXCEEDED"), (0.015, "DEADLINE_EXCEEDED")],
)
def test_a_cancelled_request_is_late_if_its_deadline_was_due(remaining: float | None, code: str) -> None:
    async def test(harness: Harness) -> None:
        with pytest.raises(asyncio.CancelledError), harness.record(remaining):
            raise asyncio.CancelledError
        assert harness.requests(code, UNKNOWN) == 1

    in_loop(test)


def test_a_model_that_is_unloaded_leaves_no_series() -> None:
    async def test(harness: Harness) -> None:
        with harness.record() as record:
            record.find(harness.models, "digits", "")
            record.answered(Scored(harness.served.info, [scores(0.1, 0.2, 0.0)]))
        harness.metrics.for_model("digits", "2").images.inc()
        harness.metrics.show({("digits", "1"): 3, ("digits", "2"): 4}, 7)
        harness.metrics.forget_model("digits", "1")
        harness.metrics.show({("digits", "2"): 5}, 5)
        versions = {s.labels.get("version") for family in harness.metrics.registry.collect() for s in family.samples}
        assert versions - {None} == {"", "2"}
        assert harness.value("repserve_queue_images", {"model": "digits", "version": "2"}) == 5

    in_loop(test)
