"""``make overload``: offers a server several times its capacity.

The device is simulated and slow, and images are 8 by 8 pixels, so that the device is the limit, and not the machine
that server and load share. Requests are sent at random (Poisson), independently of each other.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from repserve_bench.arrivals import Arrivals
from repserve_bench.dataset import Sample
from repserve_bench.driver import Driver, Recorder
from repserve_bench.environment import describe_environment
from repserve_bench.load_messages import Job
from repserve_bench.load_options import OUTPUT_FILE
from repserve_bench.payloads import InputSettings
from repserve_bench.report_file import write_json
from repserve_bench.server_process import ServerError, ServerProcess, ServerSettings
from repserve_bench.transport.factory import make_transport

if TYPE_CHECKING:
    from repserve_client.errors import ClientError
    from repserve_protos.v1 import classification_pb2 as pb

RUNTIME = "slow_device:Device"
SIDE = 8
MODEL_TOML = f"[preprocessing]\nresize = {SIDE}\ncrop = {SIDE}\n"
CAPACITY_SECONDS = 4.0
CONCURRENCY = 64
CONNECT_SECONDS = 5.0
_EXPECTED = ("OK", "RESOURCE_EXHAUSTED")
MOST_PENDING = 4_096
"""Unanswered requests at which the load gives up: the server then neither answers nor refuses them."""


class Outcomes(Recorder):
    """The outcomes of requests: seconds from when each was due to its end, by status."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.without_retry_info = 0
        self.held = False
        """Whether the limit of requests in flight was ever reached."""
        self.elapsed = 0.0
        """Seconds from the first request to the last end."""

    def count(self, code: str) -> int:
        """Return how many requests ended with this status."""
        return len(self.seconds.get(code, []))

    def milliseconds(self, code: str, percentile: float) -> float:
        """Return a percentile of the latency of requests that ended with this status."""
        values = self.seconds.get(code)
        return float(np.percentile(values, percentile)) * 1e3 if values else 0.0

    @override
    def sent(self, due: float, free: float) -> None:
        self.held |= free > due

    @override
    def retried(self, code: str) -> None:
        """Never happens: this load retries nothing."""

    @override
    def answered(self, index: int, response: pb.ClassifyResponse, due: float, ended: float) -> None:
        self.seconds.setdefault("OK", []).append(ended - due)

    @override
    def failed(self, failure: ClientError, due: float) -> None:
        self.without_retry_info += failure.code == "RESOURCE_EXHAUSTED" and failure.retry_after is None
        self.seconds.setdefault(failure.code, []).append(time.monotonic() - due)


@dataclass(frozen=True)
class OverloadFigures:
    """One run. Latencies are in milliseconds, rates in requests a second."""

    device: str
    capacity: float
    offered: float
    seconds: float
    goodput: float
    accepted_p50: float
    accepted_p99: float
    refused: int
    refused_p50: float
    refused_p99: float
    refused_max: float
    refused_without_retry_info: int
    others: dict[str, int]
    queue_bound: float
    resident_before: int
    resident_after: int
    server_cpu_ms: float


async def measure_capacity(job: Job) -> float:
    """Return the throughput of a closed loop, in requests a second."""
    outcomes = await _drive(job, CAPACITY_SECONDS)
    return outcomes.count("OK") / outcomes.elapsed


async def offer(job: Job, rate: float, seconds: float) -> Outcomes:
    """Send requests at random times, ``rate`` a second on average, spread over the connections."""
    outcomes = await _drive(replace(job, concurrency=MOST_PENDING, arrivals=Arrivals(rate)), seconds)
    if outcomes.held:
        raise click.ClickException(f"{MOST_PENDING} requests are unanswered; the server exceeds its queue limit")
    return outcomes


async def _drive(job: Job, seconds: float) -> Outcomes:
    outcomes, transport = Outcomes(), make_transport(job)
    await transport.open(CONNECT_SECONDS)
    started = time.monotonic()
    await Driver(job, transport, outcomes).run(requests=0, seconds=seconds)
    outcomes.elapsed = time.monotonic() - started
    await transport.close()
    return outcomes


def make_job(address: str, folder: Path) -> Job:
    """Return a job of unary calls, each with one tiny image that is made in ``folder``."""
    image = folder / "black.png"
    Image.new("RGB", (SIDE, SIDE)).save(image)
    return Job(
        address=address,
        groups=((Sample(image),),),
        input=InputSettings(pixels=True, crop=SIDE, resize=SIDE),
        transport="unary",
        concurrency=CONCURRENCY,
        retries=False,
    )


async def run(server: ServerProcess, job: Job, factor: float, seconds: float, max_queue_size: int) -> OverloadFigures:
    """Measure the server's capacity, then offer ``factor`` times that."""
    capacity = await measure_capacity(job)
    before, cpu = server.resident_bytes(), server.cpu_seconds()
    outcomes = await offer(job, factor * capacity, seconds)
    requests = sum(len(values) for values in outcomes.seconds.values())
    return OverloadFigures(
        device="a slow device, SIMULATED",
        capacity=capacity,
        offered=requests / seconds,
        seconds=seconds,
        # Requests still queued at the end are answered after it, and the queue was empty at the start.
        goodput=(outcomes.count("OK") - _left_in_queue(outcomes, capacity)) / seconds,
        accepted_p50=outcomes.milliseconds("OK", 50),
        accepted_p99=outcomes.milliseconds("OK", 99),
        refused=outcomes.count("RESOURCE_EXHAUSTED"),
        refused_p50=outcomes.milliseconds("RESOURCE_EXHAUSTED", 50),
        refused_p99=outcomes.milliseconds("RESOURCE_EXHAUSTED", 99),
        refused_max=outcomes.milliseconds("RESOURCE_EXHAUSTED", 100),
        refused_without_retry_info=outcomes.without_retry_info,
        others={code: outcomes.count(code) for code in outcomes.seconds if code not in _EXPECTED},
        queue_bound=max_queue_size / capacity * 1e3,
        resident_before=before,
        resident_after=server.resident_bytes(),
        server_cpu_ms=(server.cpu_seconds() - cpu) / requests * 1e3,
    )


def _left_in_queue(outcomes: Outcomes, capacity: float) -> float:
    """Return how many accepted requests were answered after the end of the load: those of a full queue."""
    return outcomes.milliseconds("OK", 50) / 1e3 * capacity


def show(figures: OverloadFigures, console: Console) -> None:
    """Print the figures as a table."""
    table = Table(box=box.SIMPLE, title=f"Overload, {figures.device}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = (
        ("capacity, closed loop", f"{figures.capacity:.0f} requests/s"),
        ("offered, Poisson", f"{figures.offered:.0f} requests/s for {figures.seconds:.0f} s"),
        ("goodput", f"{figures.goodput:.0f} requests/s, {figures.goodput / figures.capacity:.1%} of capacity"),
        ("accepted: p50, p99", f"{figures.accepted_p50:.0f}, {figures.accepted_p99:.0f} ms"),
        ("queue bound", f"{figures.queue_bound:.0f} ms"),
        ("refused", f"{figures.refused}, {figures.refused_without_retry_info} without RetryInfo"),
        (
            "refused: p50, p99, max",
            f"{figures.refused_p50:.1f}, {figures.refused_p99:.1f}, {figures.refused_max:.1f} ms",
        ),
        ("any other outcome", ", ".join(f"{n} {code}" for code, n in figures.others.items()) or "none"),
        ("server memory", f"{figures.resident_before / 1e6:.0f} MB before, {figures.resident_after / 1e6:.0f} after"),
        ("server CPU", f"{figures.server_cpu_ms:.2f} ms per request"),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)


@click.command(help=__doc__)
@click.option("--factor", default=5.0, show_default=True, help="Load to offer, as a multiple of the capacity.")
@click.option("--seconds", default=20.0, show_default=True, help="Length of the overload in seconds.")
@click.option("--max-queue-size", default=512, show_default=True, help="The server's max_queue_size.")
@click.option("--frontends", default=1, show_default=True, help="The server's number of frontends.")
@click.option("--json", "output", type=OUTPUT_FILE, help="Also write the figures as JSON.")
def main(factor: float, seconds: float, max_queue_size: int, frontends: int, output: Path | None) -> None:
    """See the module."""
    with tempfile.TemporaryDirectory(prefix="repserve-overload-") as folder:
        version = Path(folder) / "tiny" / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").touch()
        (version.parent / "model.toml").write_text(MODEL_TOML, encoding="utf-8")
        extra = ("--runtime", RUNTIME, "--max-queue-size", str(max_queue_size), "--frontends", str(frontends))
        try:
            with ServerProcess(ServerSettings(Path(folder), "cpu", extra=extra)) as server:
                job = make_job(server.address, Path(folder))
                figures = asyncio.run(run(server, job, factor, seconds, max_queue_size * frontends))
        except ServerError as error:
            raise click.ClickException(str(error)) from error
    show(figures, Console())
    if output is not None:
        write_json(output, {"environment": describe_environment(), "overload": asdict(figures)})


if __name__ == "__main__":
    sys.exit(main())
