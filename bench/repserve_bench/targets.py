"""What reaches a target: the RPC, what serialises the requests for it, and what sends them."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

from repserve_bench.call_replay import CallReplay
from repserve_bench.inference_requests import INFER_METHOD, infer_request, read_scores
from repserve_bench.payloads import Payloads, classify_request
from repserve_bench.stream_replay import StreamReplay
from repserve_bench.transport import CLASSIFY, StreamTransport, Transport, UnaryMethod, UnaryTransport, as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc.aio

    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Content, InputSettings
    from repserve_bench.replay import Replay

    MakeRequest = Callable[[Content, InputSettings], bytes]

REMEMBERED = 4096
"""Answers of KServe v2 whose ranking is kept."""


def reach(job: Job, channels: Sequence[grpc.aio.Channel]) -> tuple[Transport, MakeRequest]:
    """Returns the transport of a job and the function that serialises a request for it."""
    method = _unary_method(job)
    if method is None:
        return StreamTransport(channels, job.timeout), classify_request
    return UnaryTransport(channels, method), _request_maker(job)


def make_replay(job: Job) -> Replay:
    """Returns what sends a job's requests."""
    method = _unary_method(job)
    if method is None:
        return StreamReplay(job)
    return CallReplay(job, Payloads(job.groups, job.input, as_it_is, _request_maker(job)), method)


def _unary_method(job: Job) -> UnaryMethod | None:
    match job.transport:
        case "stream":
            return None
        case "unary":
            return CLASSIFY
        case "v2":
            # Most models give an image the same scores each time; ranking them again is much of the client's work.
            return UnaryMethod(INFER_METHOD, lru_cache(REMEMBERED)(partial(read_scores, top_k=job.input.top_k)))


def _request_maker(job: Job) -> MakeRequest:
    return infer_request if job.transport == "v2" else classify_request
