"""Requests on ClassifyStream, from one event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from repserve_bench.counts import Counts
from repserve_bench.payloads import Payloads, classify_request
from repserve_bench.replay import Pace
from repserve_bench.transport import StreamTransport, open_channels
from repserve_client.errors import ClientError
from repserve_client.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from repserve_bench.load_messages import Job
    from repserve_protos.v1 import classification_pb2 as pb


class StreamReplay:
    """See Replay."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._channels = open_channels(job.address, job.channels)
        self._transport = StreamTransport(self._channels, job.timeout)
        self._payloads = Payloads(job.groups, job.input, self._transport.frame, classify_request)
        self._pace = Pace(len(self._payloads))
        self._policy = RetryPolicy()
        self.counts = Counts()

    @property
    def requests_kept(self) -> bool:
        """See Replay."""
        return self._payloads.kept

    async def prepare(self, connect_timeout: float) -> None:
        """See Replay."""
        await asyncio.to_thread(self._payloads.prepare)
        async with asyncio.timeout(connect_timeout):
            await asyncio.gather(*(channel.channel_ready() for channel in self._channels))

    async def run(self, *, requests: int, seconds: float) -> None:
        """See Replay."""
        self._pace.begin(requests=requests, seconds=seconds)
        try:
            await (self._open_loop() if self._job.arrivals else self._closed_loop())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    def stop(self) -> None:
        """See Replay."""
        self._pace.stopped = True

    async def close(self) -> None:
        """See Replay."""
        await self._transport.close()
        for channel in self._channels:
            await channel.close(grace=None)

    async def _closed_loop(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._job.concurrency):
                tasks.create_task(self._keep_sending())

    async def _keep_sending(self) -> None:
        while not self._pace.enough(time.monotonic()):
            now = time.monotonic()
            await self._request(self._pace.next_index(), now, now)

    async def _open_loop(self) -> None:
        """Sends each request when it is due, or as soon after as one of those in flight is answered."""
        started = freed = time.monotonic()
        room = asyncio.Semaphore(self._job.concurrency)
        assert self._job.arrivals is not None  # noqa: S101 - for the type checker: run() asked
        async with asyncio.TaskGroup() as tasks:
            for offset in self._job.arrivals.offsets():
                due = started + offset
                if self._pace.enough(due):
                    break
                await asyncio.sleep(due - time.monotonic())
                full = room.locked()
                await room.acquire()
                freed = time.monotonic() if full else freed
                if self._pace.stopped:
                    break
                sending = tasks.create_task(self._request(self._pace.next_index(), due, max(due, freed)))
                sending.add_done_callback(lambda _: room.release())

    async def _request(self, index: int, due: float, free: float) -> None:
        framed = self._payloads[index]
        self.counts.sent(due, free)
        attempts = Attempts(self._policy, self._job.timeout, time.monotonic)
        try:
            response = await self._attempt(index, framed, attempts)
        except ClientError as failure:
            self.counts.failed(failure, due)
        else:
            self.counts.answered(self._payloads.groups[index], response, due, time.monotonic())

    async def _attempt(self, index: int, framed: bytes, attempts: Attempts) -> pb.ClassifyResponse:
        remaining = self._job.timeout
        attempts.begin()
        while True:
            try:
                return await self._transport.classify(index, framed, remaining)
            except ClientError as failure:
                if not self._job.retries:
                    raise
                delay = attempts.delay_after(failure)
                if self._pace.stopped:
                    raise
                self.counts.retried(failure.code)
                await asyncio.sleep(delay)
                remaining = attempts.begin()
