"""docs/bench.md, followed on the shipped model."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from repserve_bench.cli import bench
from support.harness import ROOT
from support.pages import Workplace, commands, flags_of, own_commands

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", own_commands(PAGE), ids=" ".join)
def test_every_flag_exists(words: list[str]) -> None:
    used, known = flags_of(words)
    assert used <= known


def test_every_command_of_the_bench_is_told() -> None:
    assert [name for name in bench.commands if f"bench {name}" not in PAGE] == []


@pytest.mark.timeout(300)
@pytest.mark.skipif(find_spec("mlperf_loadgen") is None, reason="LoadGen is not installed")
@pytest.mark.slow
def test_the_page_can_be_followed(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    serve = ["repserve", "serve", "--model-repository", "model_repo", "--model", "repvgg_digits", "--precision", "f32"]
    first, *rest = commands(PAGE)
    copy = ["cp", "report.json", "before.json"]

    def status(text: str) -> int | None:
        # What LoadGen says of 15 ms is up to the machine.
        return None if "mlperf" in text else 0

    printed = dict(workplace.follow([serve, first], status))
    workplace.run(copy)
    printed |= dict(workplace.follow([serve, *rest], status))
    pages = "\n".join(printed.values())
    assert "0 of 360 images, 0.00 %, differ from the reference" in pages
    assert "Highest rate" in pages
    assert "SingleStream" in pages
    assert "VALID" in pages
    assert "Report written to sweep.json" in pages
    for name in ("report.html", "sweep.html", "all.html", "before.csv"):
        assert (tmp_path / name).stat().st_size > 1000, name
    assert (tmp_path / "mlperf" / "Offline" / "mlperf_log_summary.txt").exists()
