"""One load process: keeps its share of the requests in flight and reports their outcomes.

Started by ``load.py`` as ``python -m repserve_bench.load_process FD``, where FD is its end of a socket pair.
It receives a Job, answers Ready once its requests are made, the server is connected and warmed up, waits for Go,
sends a Tally several times a second and Finished at the end. It ends when the other end of the socket does.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import sys
import time
from multiprocessing.connection import Connection

from repserve_bench.child_process import Failed
from repserve_bench.counts import Counts
from repserve_bench.driver import Driver
from repserve_bench.errors import BenchError
from repserve_bench.load_messages import Finished, Job, Ready
from repserve_bench.transport.factory import make_transport

CONNECT_TIMEOUT = 5.0
REPORT_INTERVAL = 0.2
STOP_GRACE = 2.0
"""Seconds that requests in flight may take after Stop; those left then are not counted as failed."""


async def serve(connection: Connection) -> None:
    """Do the one job that comes over ``connection``."""
    job: Job = connection.recv()
    transport = make_transport(job)
    counts = Counts(job.groups)
    driver = Driver(job, transport, counts)
    try:
        requests_kept = await transport.open(CONNECT_TIMEOUT)
        if job.warm_up_seconds:
            await driver.run(requests=0, seconds=job.warm_up_seconds)
            counts.forget()
        connection.send(Ready(requests_kept))
        await asyncio.to_thread(connection.recv)
        started, cpu_started = time.monotonic(), time.process_time()
        ended = await _watch(connection, driver, counts, job)
    except BenchError as error:
        connection.send(Failed(str(error)))
        return
    connection.send(
        Finished(
            started=started,
            ended=ended,
            cpu_seconds=time.process_time() - cpu_started,
            predictions=counts.predictions,
        )
    )
    await transport.close()


async def _watch(connection: Connection, driver: Driver, counts: Counts, job: Job) -> float:
    """Run the driver, send its tallies, and react to Stop and to the end of the other process.

    Returns:
        ``time.monotonic()`` of its end: of the last answer, or of Stop where nothing was answered after it.
    """
    message = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), message.set)
    running = asyncio.create_task(driver.run(requests=job.requests, seconds=job.seconds))
    stopping = asyncio.create_task(message.wait())
    try:
        while not running.done() and not message.is_set():
            await asyncio.wait((running, stopping), timeout=REPORT_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            connection.send(counts.take())
        loop.remove_reader(connection.fileno())
        if message.is_set():
            connection.recv()  # Stop; or EOFError, which ends this process.
            stopped = time.monotonic()
            driver.stop()
            await asyncio.wait((running,), timeout=STOP_GRACE)
            running.cancel()
        await asyncio.gather(running, return_exceptions=message.is_set())
    finally:
        stopping.cancel()
    connection.send(counts.close())
    return max(stopped, counts.last_ended) if message.is_set() else time.monotonic()


def _make_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that wakes up to the microsecond: epoll's timeouts are whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Run in the load process; only the parent reacts to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        with asyncio.Runner(loop_factory=_make_loop) as runner:
            runner.run(serve(connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent is gone. Threads that still prepare requests must not keep this process alive.
        os._exit(1)


if __name__ == "__main__":
    main()
