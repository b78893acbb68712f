"""The system under test as LoadGen sees it: takes queries on LoadGen's threads, sends them from an event loop."""

from __future__ import annotations

import asyncio
import threading
from array import array
from typing import TYPE_CHECKING, Self

import mlperf_loadgen as loadgen

from repserve_bench.payloads import Payloads
from repserve_bench.targets import reach
from repserve_bench.transport import open_channels
from repserve_client.errors import ClientError, InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlperf_loadgen import QuerySample

    from repserve_bench.load_messages import Job

CONNECT_TIMEOUT = 5.0
NO_CLASS = -1
"""What a request that failed answers: LoadGen waits for every answer."""


class SystemUnderTest:
    """Answers LoadGen's queries through a server, between entering and leaving the context.

    Args:
        job: Where and how the images are sent; an image for each request.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._queue: asyncio.Queue[QuerySample] = asyncio.Queue()
        self.failures: dict[str, str] = {}
        """The first message seen of each status that failed a request."""
        self.failed = 0

    def __enter__(self) -> Self:
        """Prepares the requests and connects.

        Raises:
            PayloadError: An image could not be read.
            TimeoutError: No server answers.
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
        """Takes a query, at once and on any thread; its samples are answered as the server answers them."""
        self._loop.call_soon_threadsafe(self._take, samples)

    def _take(self, samples: Sequence[QuerySample]) -> None:
        for sample in samples:
            self._queue.put_nowait(sample)

    async def _open(self) -> None:
        self._channels = open_channels(self._job.address, self._job.channels)
        self._transport, make_request = reach(self._job, self._channels)
        self._payloads = Payloads(self._job.groups, self._job.input, self._transport.frame, make_request)
        await asyncio.to_thread(self._payloads.prepare)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        self._senders = [asyncio.create_task(self._keep_sending()) for _ in range(self._job.concurrency)]

    async def _close(self) -> None:
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        await self._transport.close()
        for channel in self._channels:
            await channel.close(grace=None)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:  # gRPC's own, of calls that were cancelled
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _keep_sending(self) -> None:
        while True:
            sample = await self._queue.get()
            index = NO_CLASS
            try:
                payload = self._payloads[sample.index]
                response = await self._transport.classify(sample.index, payload, self._job.timeout)
                index = response.predictions[0].classes[0].index
            except Exception as error:  # noqa: BLE001 - LoadGen waits for every answer, whatever became of it
                failure = error if isinstance(error, ClientError) else InternalError(f"no class answered: {error!r}")
                self.failed += 1
                self.failures.setdefault(failure.code, failure.message)
            answer = array("i", [index])
            address, length = answer.buffer_info()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, address, length * answer.itemsize)])
