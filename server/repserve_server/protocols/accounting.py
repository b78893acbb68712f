"""Counts a request when it ends, whichever wire it came by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repserve_server.dataplane.metrics import MethodMetrics
    from repserve_server.dataplane.tracing import RequestSpan


def finish(metrics: MethodMetrics, span: RequestSpan | None, code: str, started: float, rejection: str = "") -> None:
    """Count a request that ended with this status, refused for this reason if it was, and end its span."""
    metrics.count(code, time.monotonic() - started, rejection)
    if span is not None:
        span.end(code)
