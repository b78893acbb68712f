"""How a unary call is counted: by the status that its client gets, and why it was refused."""

from __future__ import annotations

import asyncio

import pytest

from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.errors import InternalError, ModelNotFoundError, QueueFullError, RepServeError
from repserve_server.protocols.grpc.calls import counted
from support.queue_harness import run_async, settle


@pytest.mark.parametrize(
    ("remaining", "code"),
    [(None, "CANCELLED"), (60.0, "CANCELLED"), (0.0, "DEADLINE_EXCEEDED"), (0.015, "DEADLINE_EXCEEDED")],
)
def test_a_cancelled_call_counts_as_late_when_its_deadline_was_due(remaining: float | None, code: str) -> None:
    async def test() -> None:
        metrics = FrontendMetrics()
        work = counted(metrics.for_method("Classify"), None, asyncio.Event().wait(), remaining)
        call = asyncio.ensure_future(work)
        await settle()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        labels = {"method": "Classify", "code": code}
        assert metrics.registry.get_sample_value("repserve_requests_total", labels) == 1

    run_async(test)


class FakeContext:
    """An RPC that takes its status."""

    def __init__(self) -> None:
        self.code: object = None

    def invocation_metadata(self) -> None:
        """It has none."""

    async def abort(self, code: object, *_: object) -> None:
        self.code = code
        raise asyncio.CancelledError


@pytest.mark.parametrize("error", [ModelNotFoundError("cats"), QueueFullError("full"), InternalError("broken")])
def test_a_refused_call_is_counted_with_its_reason(error: RepServeError) -> None:
    async def fail() -> None:
        raise error

    async def test() -> None:
        metrics, context = FrontendMetrics(), FakeContext()
        with pytest.raises(asyncio.CancelledError):
            await counted(metrics.for_method("ModelInfer"), context, fail(), None)
        value = metrics.registry.get_sample_value
        assert value("repserve_requests_total", {"method": "ModelInfer", "code": error.status.name}) == 1
        reasons = ("unknown_model", "queue_full")
        counts = {reason: value("repserve_rejected_requests_total", {"reason": reason}) for reason in reasons}
        assert counts == {reason: float(reason == error.rejection) for reason in reasons}

    run_async(test)
