"""Requests as unary calls whose outcomes come on gRPC's own threads.

An event loop would cost each answer a change of thread and some 0.1 ms of CPU time, which shows in the figures of a
fast server on the same cores.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import cycle
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from typing_extensions import override

from repserve_bench.payloads import Payloads, classify_request
from repserve_bench.transport.base import Transport, no_answer
from repserve_bench.transport.inference import INFER_METHOD, infer_request, read_scores
from repserve_client.channels import channel_options
from repserve_client.errors import ClientError, InternalError, from_rpc_error
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Content, InputSettings
    from repserve_bench.transport.base import Done, Outcome

WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
REMEMBERED = 4096
"""Answers of KServe v2 whose ranking is kept."""


@dataclass(frozen=True)
class Method:
    """A unary RPC and how its messages are made and read."""

    path: str
    make: Callable[[Content, InputSettings], bytes]
    """Serialises the request for the images of one group."""
    read: Callable[[bytes], pb.ClassifyResponse]
    """Parses the answer; raises ClientError or DecodeError where it cannot."""


CLASSIFY = Method(
    "/repserve.v1.Classification/Classify",
    lambda content, settings: classify_request(content, settings).SerializeToString(),
    pb.ClassifyResponse.FromString,
)


def infer_method(top_k: int) -> Method:
    """Return ModelInfer of KServe v2, whose scores are ranked here."""
    # Most models give an image the same scores each time, and ranking them again is much of the client's work.
    return Method(INFER_METHOD, infer_request, lru_cache(REMEMBERED)(partial(read_scores, top_k=top_k)))


class UnaryTransport(Transport):
    """A call for each request; `send` may be called on any thread."""

    def __init__(self, job: Job, method: Method) -> None:
        self._job, self._method = job, method
        self._payloads = Payloads(job.groups, job.input, lambda _, content: method.make(content, job.input))
        self._channels: list[grpc.Channel] = []
        self._calls: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = []
        self._freed: list[int] = []
        """Connections in the order in which requests on them ended."""

    @override
    async def open(self, connect_timeout: float) -> bool:
        await asyncio.to_thread(self._payloads.prepare)
        await asyncio.to_thread(self._connect, connect_timeout)
        return self._payloads.kept

    @override
    def send(self, index: int, time_limit: float, done: Done) -> None:
        payload = self._payloads[index]
        try:
            # The connection that was freed last: gRPC ends the thread of one that is idle.
            channel = self._freed.pop()
        except IndexError:
            channel = next(self._turns)
        future = self._calls[channel].future(payload, timeout=time_limit)
        future.add_done_callback(partial(self._finish, channel, done))

    @override
    async def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _connect(self, seconds: float) -> None:
        address = self._job.address
        self._channels = [grpc.insecure_channel(address, channel_options(address)) for _ in range(self._job.channels)]
        # Requests are serialised in advance: a stub would serialise them again each time they are sent.
        self._calls = [channel.unary_unary(self._method.path, None, None) for channel in self._channels]
        self._turns = cycle(range(len(self._calls)))
        deadline = time.monotonic() + seconds
        for ready in [grpc.channel_ready_future(channel) for channel in self._channels]:
            try:
                ready.result(max(0.0, deadline - time.monotonic()))
            except grpc.FutureTimeoutError as error:
                raise no_answer(address) from error
        # An open call keeps the thread of a connection that is idle for a moment. A server without this method ends
        # the call, and threads come and go.
        self._anchors = [channel.unary_stream(WATCH_HEALTH, None, None)(b"") for channel in self._channels]

    def _finish(self, channel: int, done: Done, future: grpc.CallFuture[bytes]) -> None:
        self._freed.append(channel)
        try:
            outcome: Outcome = self._method.read(future.result())
        except grpc.FutureCancelledError:
            return  # The channels were closed.
        except grpc.RpcError as error:
            outcome = from_rpc_error(error)
        except DecodeError as error:
            outcome = InternalError(f"the server's answer cannot be parsed: {error}")
        except ClientError as error:
            outcome = error
        done(outcome)
