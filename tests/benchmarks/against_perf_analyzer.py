"""Throughput and p99 that the bench and NVIDIA's perf_analyzer measure of the same server, in turns.

Run: python tests/benchmarks/against_perf_analyzer.py [--turns N]
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
from harness import RunningServer, digit_files
from perf_analyzer import PerfAnalyzer, find_perf_analyzer
from repserve_bench.arrivals import Arrivals
from repserve_bench.dataset import Sample
from repserve_bench.inference_metadata import describe_model
from repserve_bench.load import LoadSettings, run_load
from repserve_bench.payloads import InputSettings

MODEL = "repvgg_digits"
IMAGES = 64
WINDOW_MILLISECONDS = 1500
WINDOWS = 3
IN_FLIGHT = 1024
LOADS: tuple[tuple[str, int, float], ...] = (
    ("closed loop, 1 in flight", 1, 0),
    ("closed loop, 4 in flight", 4, 0),
    ("closed loop, 16 in flight", 16, 0),
    ("Poisson, 200 requests/s", IN_FLIGHT, 200),
    ("Poisson, 600 requests/s", IN_FLIGHT, 600),
)
"""Name, requests in flight, and the rate of an open loop."""


@dataclass(frozen=True)
class Figures:
    """What a tool says of one load."""

    per_second: float
    p50_milliseconds: float
    p99_milliseconds: float
    client_cpu_milliseconds: float
    """For a request."""


def measure_with_perf_analyzer(
    program: PerfAnalyzer, address: str, images: Path, concurrency: int, rate: float
) -> Figures:
    """One run of perf_analyzer, over windows that need not agree."""
    load = ["--concurrency-range", str(concurrency)]
    if rate:
        load = ["--request-rate-range", f"{rate:g}", "--request-distribution", "poisson", "--max-threads", "16"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = program.run(
        *("-m", MODEL, "-u", address, "-i", "grpc", "-a", "-p", str(WINDOW_MILLISECONDS)),
        *("--max-trials", str(WINDOWS), "-s", "999", "--input-data", str(images), "--shape", "IMAGE:1", *load),
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


def measure_with_bench(address: str, samples: list[Sample], concurrency: int, rate: float) -> Figures:
    """One load of our own, over KServe v2 as perf_analyzer's, for as long."""
    tensor = describe_model(address, MODEL, "", pixels=False)[1]
    settings = LoadSettings(
        address,
        transport="v2",
        concurrency=concurrency,
        arrivals=Arrivals(rate) if rate else None,
        seconds=WINDOWS * WINDOW_MILLISECONDS / 1000,
        warm_up_seconds=0.5,
        retries=False,
        input=InputSettings(model=MODEL, tensor=tensor),
    )
    result = run_load(samples, settings)
    tally = result.tally
    p50, p99 = tally.percentile(50), tally.percentile(99)
    assert p50 is not None
    assert p99 is not None
    return Figures(tally.requests / result.elapsed, 1000 * p50, 1000 * p99, 1000 * result.cpu_seconds / tally.requests)


def main() -> None:
    """Measure each load with both tools in turns, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    program = find_perf_analyzer()
    files = digit_files()[:IMAGES]
    samples = [Sample(file, None) for file in files]
    with tempfile.TemporaryDirectory() as folder, RunningServer("--model", MODEL) as server:
        images = Path(folder) / "images.json"
        contents = [file.read_bytes() for file in files]
        raw = [base64.b64encode(struct.pack("<I", len(content)) + content).decode() for content in contents]
        images.write_text(json.dumps({"data": [{"IMAGE": {"b64": entry}} for entry in raw]}), encoding="utf-8")
        write("| Load | Tool | requests/s | p50 ms | p99 ms | client CPU-ms |")
        write("|---|---|---|---|---|---|")
        for name, concurrency, rate in LOADS:
            found: dict[str, list[Figures]] = {"perf_analyzer": [], "repserve bench": []}
            for _ in range(turns):
                found["perf_analyzer"].append(
                    measure_with_perf_analyzer(program, server.address, images, concurrency, rate)
                )
                found["repserve bench"].append(measure_with_bench(server.address, samples, concurrency, rate))
            for tool, figures in found.items():
                write(f"| {name} | {tool} | {describe(figures)} |")


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
