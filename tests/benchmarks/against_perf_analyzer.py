"""Throughput and p99 that the bench and NVIDIA's perf_analyzer measure of the same server, in turns.

Run: python tests/benchmarks/against_perf_analyzer.py [--help]
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import resource
import statistics
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from repserve_bench.arrivals import Arrivals
from repserve_bench.dataset import Sample
from repserve_bench.load import run_load
from repserve_bench.load_messages import LoadSettings
from repserve_bench.payloads import InputSettings
from repserve_bench.transport.metadata import describe_model
from support.harness import DIGIT_IMAGES, MODEL_REPOSITORY, RunningServer
from support.perf_analyzer import PerfAnalyzer, find_perf_analyzer

IMAGES = 64
WINDOW_MILLISECONDS = 1500
WINDOWS = 3
IN_FLIGHT = 1024


@dataclass(frozen=True)
class Figures:
    """What a tool says of one load."""

    per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    client_cpu_milliseconds: float
    """For a request."""


@dataclass(frozen=True)
class Load:
    """A closed loop, or an open one where there is a rate."""

    concurrency: int
    rate: float = 0.0

    def __str__(self) -> str:
        return f"Poisson, {self.rate:g} requests/s" if self.rate else f"closed loop, {self.concurrency} in flight"


@dataclass(frozen=True)
class Subject:
    """What both tools measure."""

    address: str
    model: str
    samples: list[Sample]
    data: Path
    """The images as perf_analyzer takes them."""


def measure_with_perf_analyzer(program: PerfAnalyzer, subject: Subject, load: Load) -> Figures:
    """One run of perf_analyzer, over windows that need not agree."""
    options = ["--concurrency-range", str(load.concurrency)]
    if load.rate:
        options = ["--request-rate-range", f"{load.rate:g}", "--request-distribution", "poisson", "--max-threads", "16"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = program.run(
        *("-m", subject.model, "-u", subject.address, "-i", "grpc", "-a", "-p", str(WINDOW_MILLISECONDS)),
        *("--max-trials", str(WINDOWS), "-s", "999", "--input-data", str(subject.data), "--shape", "IMAGE:1"),
        *options,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def find(pattern: str) -> float:
        found = re.search(pattern, output)
        assert found is not None, output
        return float(found[1])

    return Figures(
        per_second=find(r"Throughput: ([\d.]+) infer/sec"),
        p50_milliseconds=find(r"p50 latency: (\d+) usec") / 1000,
        p99_milliseconds=find(r"p99 latency: (\d+) usec") / 1000,
        client_cpu_milliseconds=1000 * cpu / find(r"Request count: (\d+)"),
    )


def measure_with_bench(subject: Subject, load: Load) -> Figures:
    """One load of our own, over KServe v2 as perf_analyzer's, for as long."""
    tensor = describe_model(subject.address, subject.model, "", pixels=False)[1]
    settings = LoadSettings(
        subject.address,
        transport="v2",
        concurrency=load.concurrency,
        arrivals=Arrivals(load.rate) if load.rate else None,
        seconds=WINDOWS * WINDOW_MILLISECONDS / 1000,
        warm_up_seconds=0.5,
        retries=False,
        input=InputSettings(model=subject.model, tensor=tensor),
    )
    result = run_load(subject.samples, settings)
    tally = result.tally
    p50, p99 = tally.percentile(50), tally.percentile(99)
    assert p50 is not None
    assert p99 is not None
    return Figures(tally.requests / result.elapsed, 1000 * p50, 1000 * p99, 1000 * result.cpu_seconds / tally.requests)


def main() -> None:
    """Measure each load with both tools in turns, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model-repository", type=Path, default=MODEL_REPOSITORY)
    parser.add_argument("--model", default="repvgg_digits")
    parser.add_argument("--images", type=Path, default=DIGIT_IMAGES, help="a folder of images")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--rate", type=float, nargs="*", default=[200, 600])
    given = parser.parse_args()
    loads = [*(Load(count) for count in given.concurrency), *(Load(IN_FLIGHT, rate) for rate in given.rate)]
    program = find_perf_analyzer()
    files = sorted(file for file in given.images.iterdir() if file.is_file())[:IMAGES]
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningServer("--model", given.model, repository=given.model_repository) as server,
    ):
        data = Path(folder) / "images.json"
        contents = [file.read_bytes() for file in files]
        raw = [base64.b64encode(struct.pack("<I", len(content)) + content).decode() for content in contents]
        data.write_text(json.dumps({"data": [{"IMAGE": {"b64": entry}} for entry in raw]}), encoding="utf-8")
        subject = Subject(server.address, given.model, [Sample(file, None) for file in files], data)
        write("| Load | Tool | requests/s | p50 ms | p99 ms | client CPU-ms |")
        write("|---|---|---|---|---|---|")
        for load in loads:
            found: dict[str, list[Figures]] = {"perf_analyzer": [], "repserve bench": []}
            for _ in range(given.turns):
                found["perf_analyzer"].append(measure_with_perf_analyzer(program, subject, load))
                found["repserve bench"].append(measure_with_bench(subject, load))
            for tool, figures in found.items():
                write(f"| {load} | {tool} | {describe(figures)} |")


def describe(figures: list[Figures]) -> str:
    """The median of each figure, with the least and the most of the turns."""
    cells = []
    for values, form in (
        ([one.per_second for one in figures], ",.0f"),
        ([one.p50_milliseconds for one in figures], ".2f"),
        ([one.p99_milliseconds for one in figures], ".2f"),
        ([one.client_cpu_milliseconds for one in figures], ".2f"),
    ):
        cells.append(f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})")
    return " | ".join(cells)


def write(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
