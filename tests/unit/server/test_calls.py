"""How a unary call is counted: by the status that its client gets."""

from __future__ import annotations

import asyncio

import pytest

from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.protocols.calls import counted
from unit.server.queue_harness import run_async, settle


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
