"""What a load process needs to reach its target: a transport, and what serialises the requests it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_bench.inference_transport import InferenceTransport, infer_request
from repserve_bench.payloads import classify_request
from repserve_bench.transport import StreamTransport, Transport, UnaryTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc.aio

    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Content, InputSettings

    MakeRequest = Callable[[Content, InputSettings], bytes]


def reach(job: Job, channels: Sequence[grpc.aio.Channel]) -> tuple[Transport, MakeRequest]:
    """Returns the transport of a job and the function that serialises a request for it."""
    match job.transport:
        case "stream":
            return StreamTransport(channels, job.timeout), classify_request
        case "unary":
            return UnaryTransport(channels), classify_request
        case "v2":
            return InferenceTransport(channels, job.input.top_k), infer_request
