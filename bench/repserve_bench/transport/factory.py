"""The transport that a job uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_bench.transport.stream import StreamTransport
from repserve_bench.transport.unary import CLASSIFY, UnaryTransport, infer_method

if TYPE_CHECKING:
    from repserve_bench.load_messages import Job
    from repserve_bench.transport.base import Transport


def make_transport(job: Job) -> Transport:
    """Return the transport that a job names."""
    match job.transport:
        case "stream":
            return StreamTransport(job)
        case "unary":
            return UnaryTransport(job, CLASSIFY)
        case "v2":
            return UnaryTransport(job, infer_method(job.input.top_k))
