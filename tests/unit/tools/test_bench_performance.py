from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from performance import (
    CpuBound,
    ServedFigures,
    figures_table,
    preprocessing_cpu_seconds,
    print_bound,
)
from repserve_bench.dataset import Sample
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

CPU = ServedFigures(
    name="JPEG, stream",
    device="cpu",
    fps=171.25,
    p50_seconds=0.1791,
    p99_seconds=0.3542,
    mean_batch_size=15.75,
    server_cpu_ms_per_image=5.717,
    client_cpu_ms_per_image=0.244,
    client_bound=False,
    failed=0,
)
TENSORS = ServedFigures(
    name="16 tensors a request, stream",
    device="sim:310p",
    fps=8741.9,
    p50_seconds=0.0073,
    p99_seconds=0.0091,
    mean_batch_size=16.0,
    server_cpu_ms_per_image=0.221,
    client_cpu_ms_per_image=0.073,
    client_bound=True,
    failed=3,
)


def render(figures: Sequence[ServedFigures], width: int) -> list[str]:
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
    print_bound(bound, CPU, console)
    assert isinstance(console.file, io.StringIO)
    assert "171.2 fps = 68.5 % of the bound" in console.file.getvalue()


def test_preprocessing_takes_cpu_time(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    assert 0 < preprocessing_cpu_seconds([Sample(tmp_path / "a.jpg")], Preprocessing(), 0.05) < 1
