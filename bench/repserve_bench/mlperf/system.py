"""The system under test for LoadGen: takes queries on LoadGen's threads, and sends them from an event loop."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self

import mlperf_loadgen as loadgen

from repserve_bench.payloads import PayloadError
from repserve_bench.transport.factory import make_transport
from repserve_client.errors import ClientError, InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlperf_loadgen import QuerySample

    from repserve_bench.load_messages import Job
    from repserve_bench.transport.base import Outcome

CONNECT_TIMEOUT = 5.0
NO_CLASS = -1
"""The answer of a failed request: LoadGen waits for every answer."""


class SystemUnderTest:
    """Answers LoadGen's queries through a server, between entering and leaving the context.

    Args:
        job: Where and how the images are sent; an image for each request.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._lock = threading.Lock()
        self._waiting: deque[QuerySample] = deque()
        self._in_flight = 0
        self.failures: dict[str, str] = {}
        """The first message seen of each status that failed a request."""
        self.failed = 0

    def __enter__(self) -> Self:
        """Prepare the requests and connect.

        Raises:
            PayloadError: An image could not be read.
            LoadError: No server answers.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def issue(self, samples: Sequence[QuerySample]) -> None:
        """Take a query, at once and on any thread; its samples are answered as the server answers them."""
        self._loop.call_soon_threadsafe(self._take, samples)

    async def _open(self) -> None:
        self._transport = make_transport(self._job)
        await self._transport.open(CONNECT_TIMEOUT)

    async def _close(self) -> None:
        await self._transport.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # gRPC's own, of calls that were cancelled
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _take(self, samples: Sequence[QuerySample]) -> None:
        with self._lock:
            self._waiting.extend(samples)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._in_flight >= self._job.concurrency:
                    return
                sample = self._waiting.popleft()
                self._in_flight += 1
            try:
                self._transport.send(sample.index, self._job.timeout, partial(self._finish, sample))
            except PayloadError as error:
                # LoadGen waits for every answer, also to a request that failed.
                self._loop.call_soon_threadsafe(self._finish, sample, InternalError(str(error)))

    def _finish(self, sample: QuerySample, outcome: Outcome) -> None:
        with self._lock:
            self._in_flight -= 1
        self._send_waiting()
        if not isinstance(outcome, ClientError) and not (outcome.predictions and outcome.predictions[0].classes):
            outcome = InternalError("no class answered")
        if isinstance(outcome, ClientError):
            index = NO_CLASS
            with self._lock:
                self.failed += 1
                self.failures.setdefault(outcome.code, outcome.message)
        else:
            index = outcome.predictions[0].classes[0].index
        answer = array("i", [index])
        address, length = answer.buffer_info()
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, address, length * answer.itemsize)])
