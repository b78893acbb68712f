"""NVIDIA's perf_analyzer, written in C++ for Triton, against the server: it runs, and its server columns are filled."""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.harness import DIGITS, RunningServer, digit_files
from support.perf_analyzer import PerfAnalyzer, find_perf_analyzer

QUICK = ("-i", "grpc", "-p", "400", "--max-trials", "6", "-s", "500")
"""Three windows of 0.4 seconds that hardly need to agree: the test is not about speed."""
SERVER_COLUMNS = re.compile(
    r"Inference count: (\d+)\s+Execution count: (\d+)\s+Successful request count: (\d+)\s+"
    r"Avg request latency: (\d+) usec "
    r"\(overhead \d+ usec \+ queue (\d+) usec \+ compute input (\d+) usec \+ compute infer (\d+) usec"
)


@pytest.fixture(scope="module")
def program() -> PerfAnalyzer:
    return find_perf_analyzer()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name, inputs in (("both", '["IMAGE", "INPUT"]'), ("images", '["IMAGE"]'), ("pixels", '["INPUT"]')):
        (repository / name).mkdir()
        (repository / name / "model.toml").write_text(f"inputs = {inputs}\n", encoding="utf-8")
        shutil.copy(DIGITS / "labels.txt", repository / name)
        shutil.copytree(DIGITS / "1", repository / name / "1")
    with RunningServer("--precision", "f32", repository=repository) as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos as the tool wants them: raw content in base64, which for BYTES begins with the length."""
    contents = [file.read_bytes() for file in digit_files()[:20]]
    raw = [base64.b64encode(struct.pack("<I", len(content)) + content).decode() for content in contents]
    path = tmp_path_factory.mktemp("data") / "images.json"
    path.write_text(json.dumps({"data": [{"IMAGE": {"b64": entry}} for entry in raw]}), encoding="utf-8")
    return path


def server_columns(output: str) -> dict[str, int]:
    """The last window's, all of which must be filled."""
    found = SERVER_COLUMNS.findall(output)
    assert found, output
    names = ("inferences", "executions", "requests", "latency", "queue", "input", "infer")
    columns = dict(zip(names, map(int, found[-1]), strict=True))
    for name in ("inferences", "executions", "requests", "latency", "infer"):
        assert columns[name] > 0, name
    return columns


def test_encoded_images_in_a_closed_loop(program: PerfAnalyzer, server: RunningServer, images: Path) -> None:
    data = ("--input-data", str(images), "--shape", "IMAGE:1")
    output = program.run("-m", "both", "-u", server.address, *QUICK, *data, "--concurrency-range", "4")
    columns = server_columns(output)
    assert columns["input"] > 0, "images are decoded"
    assert columns["executions"] <= columns["inferences"]


def test_poisson_arrivals(program: PerfAnalyzer, server: RunningServer, images: Path) -> None:
    data = ("--input-data", str(images), "--shape", "IMAGE:1")
    load = ("--request-rate-range", "50", "--request-distribution", "poisson")
    assert server_columns(program.run("-m", "both", "-u", server.address, *QUICK, *data, *load))["inferences"] > 0


def test_batches_of_the_client(program: PerfAnalyzer, server: RunningServer) -> None:
    columns = server_columns(program.run("-m", "pixels", "-u", server.address, *QUICK, "-b", "3"))
    assert columns["inferences"] == 3 * columns["requests"]


def test_streams(program: PerfAnalyzer, server: RunningServer) -> None:
    server_columns(program.run("-m", "pixels", "-u", server.address, *QUICK, "--streaming", "-a"))


def test_system_shared_memory(program: PerfAnalyzer, server: RunningServer, images: Path) -> None:
    memory = ("--shared-memory", "system", "--output-shared-memory-size", "4096")
    server_columns(program.run("-m", "pixels", "-u", server.address, *QUICK, *memory))
    data = ("--input-data", str(images), "--shape", "IMAGE:1")
    server_columns(program.run("-m", "images", "-u", server.address, *QUICK, *memory, *data))


def test_http(program: PerfAnalyzer, server: RunningServer) -> None:
    url = server.http_url.removeprefix("http://")
    quick = ("-i", "http", *QUICK[2:])
    server_columns(program.run("-m", "pixels", "-u", url, *quick))
