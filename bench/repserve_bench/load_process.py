"""One load process: keeps its share of the requests in flight and reports what comes back.

Started by ``load.py`` as ``python -m repserve_bench.load_process FD``, where FD is its end of a socket pair.
It receives a Job, answers Ready once its requests are made and the server is connected, waits for Go, sends a
Tally several times a second and Finished at the end. It ends when the other end of the socket does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from repserve_bench.load_messages import Failed, Finished, Job, Ready
from repserve_bench.payloads import PayloadError, Payloads
from repserve_bench.tally import Tally
from repserve_bench.transport import StreamTransport, Transport, UnaryTransport, open_channels
from repserve_client.errors import ClientError
from repserve_client.results import RankedClass
from repserve_client.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    from repserve_bench.dataset import Sample
    from repserve_protos.v1 import classification_pb2 as pb

CONNECT_TIMEOUT = 5.0
REPORT_INTERVAL = 0.2
STOP_GRACE = 2.0
"""Seconds that requests in flight may still take after Stop; what is left then is not counted."""

MICROSECOND = 1e-6


class Replay:
    """A closed loop: as many tasks as requests may be in flight, each sending the next request in turn."""

    def __init__(self, job: Job, transport: Transport, payloads: Payloads) -> None:
        self._job = job
        self._transport = transport
        self._payloads = payloads
        self._policy = RetryPolicy()
        self._sent = 0
        self._stopped = False
        self._end = 0.0
        self._tally = Tally()
        self.predictions: dict[str, RankedClass] = {}

    def stop(self) -> None:
        """Sends nothing more."""
        self._stopped = True

    def take_tally(self) -> Tally:
        """Returns what was counted since the last call."""
        tally, self._tally = self._tally, Tally()
        return tally

    async def run(self) -> None:
        """Replays until requests and seconds are reached, or ``stop``.

        Raises:
            PayloadError: An image could not be read when its turn came.
        """
        self._end = time.monotonic() + self._job.seconds
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._job.concurrency):
                    tasks.create_task(self._keep_sending())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _keep_sending(self) -> None:
        while not self._stopped and (self._sent < self._job.requests or time.monotonic() < self._end):
            index = self._sent % len(self._payloads)
            self._sent += 1
            await self._request(index)

    async def _request(self, index: int) -> None:
        framed = self._payloads[index]
        started = time.monotonic()
        attempts = Attempts(self._policy, self._job.timeout, time.monotonic)
        try:
            response = await self._attempt(index, framed, attempts)
        except ClientError as failure:
            self._count_failure(failure)
        else:
            self._tally.latencies.append(time.monotonic() - started)
            self._count(self._payloads.groups[index], response)

    async def _attempt(self, index: int, framed: bytes, attempts: Attempts) -> pb.ClassifyResponse:
        remaining = self._job.timeout
        attempts.begin()
        while True:
            try:
                return await self._transport.classify(index, framed, remaining)
            except ClientError as failure:
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
            tally.batch_size_sum += prediction.batch_size
            tally.queue_seconds += prediction.queue_microseconds * MICROSECOND
            tally.compute_seconds += prediction.compute_microseconds * MICROSECOND
            first = self.predictions.get(sample.name)
            if first is None:
                best = classes[0]
                self.predictions[sample.name] = RankedClass(best.index, best.label, best.probability)
                if sample.label is not None:
                    # An image that is sent again counts once, or the first of the set would weigh more.
                    tally.accuracy.add(sample.label, [ranked.index for ranked in classes])
            elif first.index != classes[0].index:
                tally.changed_answers += 1


async def serve(connection: Connection) -> None:
    """Does the one job that comes over ``connection``."""
    job: Job = connection.recv()
    channels = open_channels(job.address, job.channels)
    transport: Transport = StreamTransport(channels, job.timeout) if job.stream else UnaryTransport(channels)
    payloads = Payloads(job.groups, job.input, transport.frame)
    try:
        await asyncio.to_thread(payloads.prepare)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
    except PayloadError as error:
        connection.send(Failed(str(error)))
        return
    except TimeoutError:
        connection.send(Failed(f"no server answers at {job.address}: start one, or name another with --server"))
        return
    connection.send(Ready(payloads.kept))
    await asyncio.to_thread(connection.recv)
    replay = Replay(job, transport, payloads)
    started, cpu_started = time.monotonic(), time.process_time()
    try:
        await _watch(connection, replay)
    except PayloadError as error:
        connection.send(Failed(str(error)))
        return
    connection.send(
        Finished(
            started=started,
            ended=time.monotonic(),
            cpu_seconds=time.process_time() - cpu_started,
            predictions=replay.predictions,
        )
    )
    await transport.close()
    for channel in channels:
        await channel.close(grace=None)


async def _watch(connection: Connection, replay: Replay) -> None:
    """Runs the replay, sends its tallies, and heeds Stop and the end of the other process."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), told.set)
    running = asyncio.create_task(replay.run())
    stopping = asyncio.create_task(told.wait())
    try:
        while not running.done() and not told.is_set():
            await asyncio.wait((running, stopping), timeout=REPORT_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            connection.send(replay.take_tally())
        loop.remove_reader(connection.fileno())
        if told.is_set():
            connection.recv()  # Stop; or EOFError, which ends this process.
            replay.stop()
            await asyncio.wait((running,), timeout=STOP_GRACE)
            running.cancel()
        await asyncio.gather(running, return_exceptions=told.is_set())
    finally:
        stopping.cancel()
    connection.send(replay.take_tally())


def main() -> None:
    """Runs in the load process; the parent alone heeds Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        asyncio.run(serve(connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent is gone. Threads that still prepare requests must not keep this process alive.
        os._exit(1)


if __name__ == "__main__":
    main()
