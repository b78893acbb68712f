"""The requests of one load process: sent in a closed or an open loop, and counted as they come back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from repserve_bench.predictions import Prediction
from repserve_bench.tally import Tally
from repserve_client.errors import ClientError
from repserve_client.results import RankedClass
from repserve_client.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from repserve_bench.dataset import Sample
    from repserve_bench.load_messages import Job
    from repserve_bench.payloads import Payloads
    from repserve_bench.transport import Transport
    from repserve_protos.v1 import classification_pb2 as pb

MICROSECOND = 1e-6


class Replay:
    """Sends requests until their number and time are reached, and counts what comes back."""

    def __init__(self, job: Job, transport: Transport, payloads: Payloads) -> None:
        self._job = job
        self._transport = transport
        self._payloads = payloads
        self._policy = RetryPolicy()
        self._sent = 0
        self._requests = 0
        self._stopped = False
        self._end = 0.0
        self._tally = Tally()
        self.predictions: dict[str, Prediction] = {}

    def stop(self) -> None:
        """Sends nothing more."""
        self._stopped = True

    def take_tally(self) -> Tally:
        """Returns what was counted since the last call."""
        tally, self._tally = self._tally, Tally()
        return tally

    async def run(self, *, requests: int, seconds: float) -> None:
        """Replays from the first image on until at least so many requests and seconds are reached, or ``stop``.

        Raises:
            PayloadError: An image could not be read when its turn came.
        """
        self._sent, self._requests = 0, requests
        self._end = time.monotonic() + seconds
        try:
            await (self._open_loop() if self._job.arrivals else self._closed_loop())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _closed_loop(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._job.concurrency):
                tasks.create_task(self._keep_sending())

    async def _keep_sending(self) -> None:
        while not self._enough(time.monotonic()):
            await self._request(self._next_index(), time.monotonic())

    async def _open_loop(self) -> None:
        """Sends each request when it is due, or as soon after as one of those in flight is answered."""
        started = time.monotonic()
        room = asyncio.Semaphore(self._job.concurrency)
        assert self._job.arrivals is not None  # noqa: S101 - for the type checker: run() asked
        async with asyncio.TaskGroup() as tasks:
            for offset in self._job.arrivals.offsets():
                due = started + offset
                if self._enough(due):
                    break
                await asyncio.sleep(due - time.monotonic())
                await room.acquire()
                if self._stopped:
                    break
                sending = tasks.create_task(self._request(self._next_index(), due))
                sending.add_done_callback(lambda _: room.release())

    def _enough(self, due: float) -> bool:
        return self._stopped or (self._sent >= self._requests and due >= self._end)

    def _next_index(self) -> int:
        index = self._sent % len(self._payloads)
        self._sent += 1
        return index

    async def _request(self, index: int, due: float) -> None:
        framed = self._payloads[index]
        lag = time.monotonic() - due
        tally = self._tally
        tally.send_lag_seconds += lag
        tally.worst_send_lag = max(tally.worst_send_lag, lag)
        attempts = Attempts(self._policy, self._job.timeout, time.monotonic)
        try:
            response = await self._attempt(index, framed, attempts)
        except ClientError as failure:
            self._count_failure(failure)
        else:
            ended = time.monotonic()
            self._tally.latencies.append(ended - due)
            self._tally.ended.append(ended)
            self._count(self._payloads.groups[index], response)

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
                if self._stopped:
                    raise
                self._tally.retries[failure.code] += 1
                await asyncio.sleep(delay)
                remaining = attempts.begin()

    def _count_failure(self, failure: ClientError) -> None:
        tally = self._tally
        tally.requests += 1
        tally.statuses[failure.code] += 1
        tally.failures.setdefault(failure.code, failure.message)

    def _count(self, samples: tuple[Sample, ...], response: pb.ClassifyResponse) -> None:
        tally = self._tally
        tally.requests += 1
        tally.statuses["OK"] += 1
        tally.images += len(samples)
        tally.versions[response.version] += len(samples)
        tally.decode_seconds += response.decode_microseconds * MICROSECOND
        for sample, prediction in zip(samples, response.predictions, strict=True):
            classes = prediction.classes
            if prediction.batch_size:
                tally.batch_sizes[prediction.batch_size] += 1
            tally.queue_seconds += prediction.queue_microseconds * MICROSECOND
            tally.compute_seconds += prediction.compute_microseconds * MICROSECOND
            first = self.predictions.get(sample.name)
            if first is None:
                best = classes[0]
                ranked = tuple(entry.index for entry in classes)
                self.predictions[sample.name] = Prediction(
                    RankedClass(best.index, best.label, best.probability), ranked
                )
                if sample.label is not None:
                    # An image that is sent again counts once, or the first of the set would weigh more.
                    tally.accuracy.add(sample.label, ranked)
            elif first.best.index != classes[0].index:
                tally.changed_answers += 1
