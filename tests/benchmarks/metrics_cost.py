"""CPU time that recording metrics takes for each image, as the frontend and a worker record them.

Run: python tests/benchmarks/metrics_cost.py
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from repserve_server.channel.messages import CloseReason
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 100_000
BATCH = 12
SECONDS = 0.0123


def main() -> None:
    """Time what is recorded for a request of one image, and for a batch, and print the sums."""
    frontend, worker = FrontendMetrics(), WorkerMetrics("model", "1", "cpu")
    method, queue = frontend.for_method("ClassifyStream"), frontend.for_queue("model", "1")

    def request() -> None:
        frontend.images.inc(1)
        frontend.reply_seconds.observe(SECONDS)
        method.count("OK", SECONDS)

    def queued() -> None:
        queue.queue_seconds.observe(SECONDS)

    def decode() -> None:
        frontend.decode_seconds.observe(SECONDS)

    def batch() -> None:
        worker.count_batch(BATCH, BATCH, CloseReason.FULL, SECONDS)

    request_cost, queue_cost, decode_cost = cost(request), cost(queued), cost(decode)
    batch_cost = cost(batch) / BATCH
    tensor = request_cost + queue_cost + batch_cost
    write(f"request {request_cost:.2f} us, queue {queue_cost:.2f} us, decoding {decode_cost:.2f} us")
    write(f"batch {batch_cost * BATCH:.2f} us, {batch_cost:.2f} us for each of its {BATCH} images")
    write(f"a tensor in a request of its own: {tensor:.2f} us; a JPEG: {tensor + decode_cost:.2f} us")


def cost(work: Callable[[], None]) -> float:
    """Microseconds of CPU time of one call: the best of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(REPEATS):
            work()
        rounds.append((time.process_time() - started) / REPEATS)
    return min(rounds) * 1e6


def write(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
