from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from performance import (
    CpuBound,
    figures_table,
    preprocessing_cpu_seconds,
    print_bound,
)
from repserve_bench.dataset import Sample
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

CPU = {
    "name": "JPEG, stream",
    "devices": ["cpu"],
    "fps": 171.25,
    "latency_seconds": {"p50": 0.1791, "p99": 0.3542},
    "mean_batch_size": 15.75,
    "server_cpu_milliseconds": 5.717,
    "client_cpu_milliseconds": 0.244,
    "failed_requests": 0,
    "note": "",
}
TENSORS = {
    "name": "16 tensors per request, stream",
    "devices": ["sim:310p"],
    "fps": 8741.9,
    "latency_seconds": {"p50": 0.0073, "p99": 0.0091},
    "mean_batch_size": 16.0,
    "server_cpu_milliseconds": 0.221,
    "client_cpu_milliseconds": 0.073,
    "failed_requests": 3,
    "note": "SIMULATED, client busy",
}


def render(figures: Sequence[dict[str, Any]], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(figures_table(figures))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_is_cut(width: int) -> None:
    lines = render([CPU, TENSORS], width)
    cpu = ("171.2", "179.10", "354.20", "15.75", "5.717", "0.244")
    assert any(all(figure in line for figure in cpu) for line in lines)
    tensors = ("8741.9", "7.30", "9.10", "16.00", "0.221", "0.073")
    assert any(all(figure in line for figure in tensors) for line in lines)
    assert any("SIMULATED" in line for line in lines)


def test_the_bound_is_what_the_cores_could_do() -> None:
    bound = CpuBound(engine_cpu_seconds=0.006, preprocessing_cpu_seconds=0.002, cores=2)
    assert bound.fps == pytest.approx(250)
    console = Console(file=io.StringIO(), width=120)
    print_bound(bound, 171.25, console)
    assert isinstance(console.file, io.StringIO)
    assert "171.2 fps = 68.5 % of the bound" in console.file.getvalue()


def test_preprocessing_takes_cpu_time(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    assert 0 < preprocessing_cpu_seconds([Sample(tmp_path / "a.jpg")], Preprocessing(), 0.05) < 1
