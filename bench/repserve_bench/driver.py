"""The one loop that sends requests: closed, where a request follows each answer, or open, where a clock sets the pace.

Requests may end on any thread: those of unary calls end on gRPC's, and the next one is sent from there.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from repserve_client.errors import ClientError
from repserve_client.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from repserve_bench.load_messages import Job
    from repserve_bench.transport.base import Outcome, Transport
    from repserve_protos.v1 import classification_pb2 as pb


class Recorder(Protocol):
    """Records the outcomes of requests, on any thread; times are of ``time.monotonic()``."""

    def sent(self, due: float, free: float) -> None:
        """Record a request that is sent now.

        Args:
            due: When it should have been sent.
            free: When it could be sent: later than due if the limit of requests in flight was reached.
        """

    def retried(self, code: str) -> None:
        """Record a retry after an attempt that ended with this status."""

    def answered(self, index: int, response: pb.ClassifyResponse, due: float, ended: float) -> None:
        """Record the answer of the job's ``index``-th request."""

    def failed(self, failure: ClientError, due: float) -> None:
        """Record a request that ended without an answer."""


@dataclass(slots=True)
class _Request:
    """A request that has not ended yet."""

    index: int
    due: float
    attempts: Attempts | None = None
    """Made with the first failure: most requests need none."""


class Driver:
    """Sends a job's requests and records their outcomes.

    Args:
        job: Which requests, how many in flight, and when they are due.
        transport: What carries them; open.
        recorder: Gets the outcome of every request.
    """

    def __init__(self, job: Job, transport: Transport, recorder: Recorder) -> None:
        self._job, self._transport, self._recorder = job, transport, recorder
        self._policy = RetryPolicy()
        self._stopped = False
        # What follows is changed under the lock, by the loop's thread and by those of the transport.
        self._lock = threading.Lock()
        self._begun = self._in_flight = 0
        self._all_sent = False
        self._error: Exception | None = None

    async def run(self, *, requests: int, seconds: float) -> None:
        """Send requests, starting with the first, until both limits are reached or `stop` is called.

        Raises:
            PayloadError: An image could not be read when its turn came.
        """
        self._loop = asyncio.get_running_loop()
        self._done, self._room = asyncio.Event(), asyncio.Event()
        self._requests, self._end = requests, time.monotonic() + seconds
        self._begun, self._all_sent, self._error = 0, False, None
        await (self._open_loop() if self._job.arrivals else self._closed_loop())
        with self._lock:
            self._all_sent = True
            if self._in_flight == 0:
                self._done.set()
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True

    def _enough(self, due: float) -> bool:
        """Return whether to send no request that is due then."""
        return self._stopped or self._error is not None or (self._begun >= self._requests and due >= self._end)

    async def _closed_loop(self) -> None:
        """Start as many requests as may be in flight; each answer starts the next one."""
        for _ in range(self._job.concurrency):
            with self._lock:
                self._in_flight += 1
            self._guard(self._go_on_or_leave)

    async def _open_loop(self) -> None:
        """Send each request when it is due, or as soon after as one of those in flight has ended."""
        started = freed = time.monotonic()
        assert self._job.arrivals is not None  # noqa: S101 - for the type checker: run() looked
        for offset in self._job.arrivals.offsets():
            due = started + offset
            if self._enough(due):
                break
            await asyncio.sleep(due - time.monotonic())
            if (room := self._room_to_come()) is not None:
                await room
                freed = time.monotonic()
            if self._stopped or self._error is not None:
                break
            with self._lock:
                self._in_flight += 1
                index = self._next_index()
            # Requests that became due while another waited could not be sent before that one.
            self._guard(self._begin, index, due, max(due, freed))

    def _next_index(self) -> int:
        index = self._begun % len(self._job.groups)
        self._begun += 1
        return index

    def _room_to_come(self) -> Awaitable[object] | None:
        """Return what to wait for before another request may be sent; None if it may be sent now."""
        with self._lock:
            self._room.clear()
            return self._room.wait() if self._in_flight >= self._job.concurrency else None

    def _go_on(self) -> bool:
        """In a closed loop, send the next request in place of one that ended; return whether there was one."""
        now = time.monotonic()
        with self._lock:
            if self._job.arrivals is not None or self._enough(now):
                return False
            index = self._next_index()
        self._begin(index, now, now)
        return True

    def _leave(self) -> None:
        """Count a request that ended and is not replaced by another."""
        with self._lock:
            self._in_flight -= 1
            room = self._in_flight == self._job.concurrency - 1
            done = self._all_sent and self._in_flight == 0
        if done:
            self._loop.call_soon_threadsafe(self._done.set)
        elif room:
            self._loop.call_soon_threadsafe(self._room.set)

    def _go_on_or_leave(self) -> None:
        if not self._go_on():
            self._leave()

    def _begin(self, index: int, due: float, free: float) -> None:
        self._recorder.sent(due, free)
        self._send(_Request(index, due), self._job.timeout)

    def _send(self, request: _Request, time_limit: float) -> None:
        self._transport.send(request.index, time_limit, partial(self._guard, self._finish, request))

    def _finish(self, request: _Request, outcome: Outcome) -> None:
        if isinstance(outcome, ClientError):
            self._fail(request, outcome)
            return
        ended = time.monotonic()
        # The next request first: the server works on it while this one is counted.
        went_on = self._go_on()
        self._recorder.answered(request.index, outcome, request.due, ended)
        if not went_on:
            self._leave()

    def _fail(self, request: _Request, failure: ClientError) -> None:
        if self._job.retries and not self._stopped:
            try:
                if request.attempts is None:
                    remaining = self._job.timeout - (time.monotonic() - request.due)
                    request.attempts = Attempts(self._policy, max(0.0, remaining), time.monotonic)
                    request.attempts.begin()
                delay = request.attempts.delay_after(failure)
            except ClientError as last:
                failure = last
            else:
                self._recorder.retried(failure.code)
                self._later(delay, self._try_again, request)
                return
        self._recorder.failed(failure, request.due)
        # By way of the loop: calls that fail at once would nest without end.
        self._later(0.0, self._go_on_or_leave)

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
        """Do the work of a callback; run() raises its errors, which the caller would swallow."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - run() raises it
            with self._lock:
                self._error = self._error or error
            self._loop.call_soon_threadsafe(self._room.set)
            self._loop.call_soon_threadsafe(self._done.set)
