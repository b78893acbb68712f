"""Requests as unary calls, each counted, and the next one sent, on the thread of gRPC that the answer comes to.

An event loop would cost each answer a change of thread and some 0.1 ms of the processor, which a quick server on the
same cores shows in its throughput and its p50.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc

from repserve_bench.counts import Counts
from repserve_bench.replay import Pace
from repserve_client.channels import channel_options
from repserve_client.errors import ClientError, from_rpc_error
from repserve_client.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Payloads
    from repserve_bench.transport import UnaryMethod


WATCH_HEALTH = "/grpc.health.v1.Health/Watch"


@dataclass(slots=True)
class _Request:
    """A request that is not answered yet."""

    index: int
    framed: bytes
    due: float
    lane: int
    """Which of the connections carries it."""
    attempts: Attempts | None = None
    """Made with the first failure: most requests need none."""


class CallReplay:
    """See Replay."""

    def __init__(self, job: Job, payloads: Payloads, method: UnaryMethod) -> None:
        self._job = job
        self._payloads = payloads
        self._read = method.read
        self._channels = [
            grpc.insecure_channel(job.address, options=channel_options(job.address)) for _ in range(job.channels)
        ]
        self._calls: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(method.path, request_serializer=None, response_deserializer=None)
            for channel in self._channels
        ]
        self._pace = Pace(len(payloads))
        self._policy = RetryPolicy()
        self.counts = Counts()
        # What follows is changed under the lock, by gRPC's threads and by the loop's.
        self._lock = threading.Lock()
        self._in_flight = 0
        self._all_sent = False
        self._error: Exception | None = None

    @property
    def requests_kept(self) -> bool:
        """See Replay."""
        return self._payloads.kept

    async def prepare(self, connect_timeout: float) -> None:
        """See Replay."""
        await asyncio.to_thread(self._payloads.prepare)
        await asyncio.to_thread(self._connect, connect_timeout)

    async def run(self, *, requests: int, seconds: float) -> None:
        """See Replay."""
        self._loop = asyncio.get_running_loop()
        self._done, self._room = asyncio.Event(), asyncio.Event()
        self._pace.begin(requests=requests, seconds=seconds)
        self._all_sent, self._error = False, None
        await (self._open_loop() if self._job.arrivals else self._closed_loop())
        with self._lock:
            self._all_sent = True
            if self._in_flight == 0:
                self._done.set()
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """See Replay."""
        self._pace.stopped = True

    async def close(self) -> None:
        """See Replay."""
        for channel in self._channels:
            channel.close()

    def _connect(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for ready in [grpc.channel_ready_future(channel) for channel in self._channels]:
            try:
                ready.result(max(0.0, deadline - time.monotonic()))
            except grpc.FutureTimeoutError as error:
                raise TimeoutError from error
        # gRPC ends the thread of a connection that carries nothing and starts another for its next call. A call that
        # stays open keeps it; a server that does not know this one ends it, and then threads come and go.
        self._anchors = [channel.unary_stream(WATCH_HEALTH, None, None)(b"") for channel in self._channels]

    async def _closed_loop(self) -> None:
        """Begins as many chains as requests are to be in flight; each sends the next request with every answer."""
        for number in range(self._job.concurrency):
            with self._lock:
                self._in_flight += 1
            self._guard(self._go_on_or_leave, number % len(self._calls))

    async def _open_loop(self) -> None:
        """Sends each request when it is due, or as soon after as one of those in flight is answered."""
        started = freed = time.monotonic()
        assert self._job.arrivals is not None  # noqa: S101 - for the type checker: run() asked
        for offset in self._job.arrivals.offsets():
            due = started + offset
            if self._pace.enough(due) or self._error is not None:
                break
            await asyncio.sleep(due - time.monotonic())
            if (room := self._room_to_come()) is not None:
                await room
                freed = time.monotonic()
            if self._pace.stopped:
                break
            with self._lock:
                index = self._pace.next_index()
                self._in_flight += 1
            # Those that became due while another waited for room could not be sent before that came.
            self._guard(self._begin, index, due, max(due, freed), index % len(self._calls))

    def _room_to_come(self) -> Awaitable[object] | None:
        """What to wait for before another request may be in flight; None when it may."""
        with self._lock:
            self._room.clear()
            return self._room.wait() if self._in_flight >= self._job.concurrency else None

    def _go_on(self, lane: int) -> bool:
        """In a closed loop, sends the request that takes an ended one's place; False when there are enough.

        It takes the same connection, which thereby always carries something: gRPC ends the thread of one that carries
        nothing, and starts another for its next call.
        """
        now = time.monotonic()
        with self._lock:
            if self._job.arrivals is not None or self._error is not None or self._pace.enough(now):
                return False
            index = self._pace.next_index()
        self._begin(index, now, now, lane)
        return True

    def _leave(self) -> None:
        """A request has ended and none takes its place."""
        with self._lock:
            self._in_flight -= 1
            room = self._in_flight == self._job.concurrency - 1
            done = self._all_sent and self._in_flight == 0
        if done:
            self._loop.call_soon_threadsafe(self._done.set)
        elif room:
            self._loop.call_soon_threadsafe(self._room.set)

    def _go_on_or_leave(self, lane: int) -> None:
        if not self._go_on(lane):
            self._leave()

    def _begin(self, index: int, due: float, free: float, lane: int) -> None:
        request = _Request(index, self._payloads[index], due, lane)
        self.counts.sent(due, free)
        self._send(request, self._job.timeout)

    def _send(self, request: _Request, time_limit: float) -> None:
        future = self._calls[request.lane].future(request.framed, timeout=time_limit)
        future.add_done_callback(partial(self._guard, self._take, request))

    def _take(self, request: _Request, future: grpc.CallFuture[bytes]) -> None:
        """An attempt has ended, and this is a thread of gRPC."""
        try:
            answer = future.result()
        except grpc.RpcError as error:
            self._fail(request, from_rpc_error(error))
            return
        ended = time.monotonic()
        # The next request first: the server works on it while this one is counted.
        went_on = self._go_on(request.lane)
        try:
            response = self._read(answer)
        except ClientError as failure:
            self.counts.failed(failure, request.due)
        else:
            self.counts.answered(self._payloads.groups[request.index], response, request.due, ended)
        if not went_on:
            self._leave()

    def _fail(self, request: _Request, failure: ClientError) -> None:
        if self._job.retries:
            try:
                delay = self._delay_after(request, failure)
            except ClientError as last:
                failure = last
            else:
                self.counts.retried(failure.code)
                self._later(delay, self._try_again, request)
                return
        self.counts.failed(failure, request.due)
        # By way of the loop: calls that fail at once would nest without end.
        self._later(0.0, self._go_on_or_leave, request.lane)

    def _delay_after(self, request: _Request, failure: ClientError) -> float:
        if self._pace.stopped:
            raise failure
        if request.attempts is None:
            elapsed = time.monotonic() - request.due
            request.attempts = Attempts(self._policy, max(0.0, self._job.timeout - elapsed), time.monotonic)
            request.attempts.begin()
        return request.attempts.delay_after(failure)

    def _try_again(self, request: _Request) -> None:
        assert request.attempts is not None  # noqa: S101 - for the type checker: it has failed before
        try:
            remaining = request.attempts.begin()
        except ClientError as failure:
            self._fail(request, failure)
        else:
            self._send(request, remaining)

    def _later(self, delay: float, work: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, delay, partial(self._guard, work, *arguments))

    def _guard(self, work: Callable[..., None], *arguments: object) -> None:
        """Does work whose errors nobody above would see: run() raises them."""
        try:
            work(*arguments)
        except grpc.FutureCancelledError:
            pass  # The channels were closed.
        except Exception as error:  # noqa: BLE001 - run() raises it
            with self._lock:
                self._error = self._error or error
            self._loop.call_soon_threadsafe(self._room.set)
            self._loop.call_soon_threadsafe(self._done.set)
