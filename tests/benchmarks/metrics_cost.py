"""CPU time that recording takes for each image, as a frontend and a worker record it, and of a snapshot of all series.

Run: python tests/benchmarks/metrics_cost.py
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from repserve_server.channel.messages import CloseReason
from repserve_server.channel.model_info import ModelInfo
from repserve_server.dataplane.dataplane import Scored
from repserve_server.dataplane.metrics import FrontendMetrics
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.recorder import Recorder
from repserve_server.dataplane.scores import BatchScores, ImageScores
from repserve_server.metrics import take_snapshot
from repserve_server.worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_server.dataplane.queue import ModelQueue

REPEATS = 100_000
SNAPSHOTS = 200
BATCH = 12
SECONDS = 0.0123


def main() -> None:
    """Time what is recorded for a request of one image, and for a batch, and print the sums."""
    frontend, worker = FrontendMetrics(), WorkerMetrics("model", "1", "cpu")
    model, table, recorder = frontend.for_model("model", "1"), ModelTable(), Recorder(frontend)
    table.open(0, cast("ModelQueue", SimpleNamespace(metrics=model)))
    table.update([ModelInfo("model", "1", "ready", "")])
    image = ImageScores(BatchScores(np.zeros((1, 2), np.float32), "logits"), 0, BATCH, SECONDS, SECONDS, SECONDS)

    def request() -> None:
        with recorder.request("grpc", "ClassifyStream", dict) as record:
            served = record.find(table, "model", "")
            record.answered(Scored(served.info, [image]))

    def queued() -> None:
        model.queue_seconds.observe(SECONDS)

    def decode() -> None:
        model.decode_seconds.observe(SECONDS)

    def batch() -> None:
        worker.count_batch(BATCH, BATCH, CloseReason.FULL, SECONDS)

    request_cost, queue_cost, decode_cost = cost(request), cost(queued), cost(decode)
    batch_cost = cost(batch) / BATCH
    tensor = request_cost + queue_cost + batch_cost
    write(f"request {request_cost:.2f} us, queue {queue_cost:.2f} us, decoding {decode_cost:.2f} us")
    write(f"batch {batch_cost * BATCH:.2f} us, {batch_cost:.2f} us for each of its {BATCH} images")
    write(f"a tensor in a request of its own: {tensor:.2f} us; a JPEG: {tensor + decode_cost:.2f} us")
    write(f"a snapshot once a second: {cost(lambda: take_snapshot(frontend.registry), SNAPSHOTS):.0f} us")


def cost(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Microseconds of CPU time of one call: the best of five rounds."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repeats):
            work()
        rounds.append((time.process_time() - started) / repeats)
    return min(rounds) * 1e6


def write(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
