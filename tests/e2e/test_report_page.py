"""The bench's HTML report, opened from disk in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from repserve_bench.cli import bench
from support.browser import Visit, chromium, needs_chromium
from support.harness import DIGITS, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

VALIDATION = DIGITS / "validation"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of a replay, a sweep and a search."""
    folder = tmp_path_factory.mktemp("report")
    documents = []

    def measure(name: str, *options: object) -> None:
        documents.append(folder / f"{name}.json")
        common = ["--images", VALIDATION / "images", "--server", server.address, "--output", documents[-1]]
        labels = ["--labels", VALIDATION / "val_label.txt"]
        result = CliRunner().invoke(bench, [str(option) for option in (name, *common, *labels, *options)])
        assert result.exit_code == 0, result.output

    with RunningServer("--model", "repvgg_digits", "--precision", "f32") as server:
        measure("run", "--seconds", 1, "--window", 0.3)
        measure("sweep", "--concurrency", "1,8", "--seconds", 0.3)
        measure("saturate", "--p99-ms", 50, "--seconds", 0.3, "--start", 200)
    page = folder / "page.html"
    result = CliRunner().invoke(bench, ["report", *map(str, documents), "--output", str(page)])
    assert result.exit_code == 0, result.output
    return page


def test_it_needs_no_network(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
    assert "<script" not in text


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_a_complaint_and_fits(report: Path, width: int) -> None:
    with chromium() as browser:
        visit = Visit(browser, report.as_uri(), width=width)
        page = visit.page
        assert page.locator("figure img").count() >= 6
        drawn = "Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)"
        assert page.evaluate(drawn), "every picture is drawn"
        assert page.locator("h2", has_text="Throughput and latency").count() == 1
        assert page.locator("h2", has_text="Saturation").count() == 1
        assert page.locator(".mistakes img").count() >= 1, "the mistakes have thumbnails"
        assert visit.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in visit.requests)
        assert visit.fits
