"""The study's output: tables, the page and the plot."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from rich.console import Console

from planning import study
from planning.comparison import Comparison, Estimate, collect, points
from planning.devices import DEVICES, GUIDE_310P, GUIDE_DEVICES
from planning.page import BEGIN, END, PageError, results_text, write_results
from planning.plot import draw
from planning.policies import PLANNER, POLICIES, SINGLE
from planning.tables import (
    gain_rows,
    latency_rows,
    markdown_table,
    percent,
    plan_rows,
    planned_runs,
    rule_rows,
    share_rows,
)
from repserve_server.worker.planner import BatchCosts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from planning.comparison import Point
    from planning.simulation import Figures

LOADS = (0.1, 0.5)
PAGE = f"# Title\n\nbefore\n\n{BEGIN}\n\nold figures\n\n{END}\n\nafter\n"


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    wanted = points(DEVICES[:2], LOADS, seeds=2, images=300)
    return collect([(point, point.run()) for point in wanted])


def test_a_table_of_latencies_has_a_row_for_each_load(comparisons: list[Comparison]) -> None:
    headings, quiet, busy = latency_rows(comparisons[0], "p99")
    assert headings[2:8] == list(POLICIES)
    assert (quiet[:2], busy[:2]) == (["10 %", "875"], ["50 %", "4,376"])
    estimate = comparisons[0].estimate(0.1, PLANNER, "p99")
    assert estimate is not None
    assert quiet[2] == f"{1000 * estimate.mean:.2f}"
    assert busy[7] == "", "one by one is not stable there"
    assert all("±" in cell for row in (quiet, busy) for cell in row[8:])


def test_shares_are_shown_in_percent(comparisons: list[Comparison]) -> None:
    _, quiet, busy = share_rows(comparisons[0], "utilisation")
    estimate = comparisons[0].estimate(0.1, SINGLE, "utilisation")
    assert estimate is not None
    assert quiet[7] == f"{100 * estimate.mean:.0f} %"
    assert busy[5] == "100 %"


def test_the_worst_and_the_best_name_their_loads(comparisons: list[Comparison]) -> None:
    rows = rule_rows(comparisons)
    assert [row[0] for row in rows[1:]] == ["310P, the guide's rates", "310, the guide's rates"]
    cells = [cell for row in (*rows[1:], *gain_rows(comparisons[0])[1:]) for cell in row[1:]]
    assert all(cell.endswith((" at 10 %", " at 50 %")) for cell in cells)


def test_shares_have_a_sign_and_a_margin() -> None:
    assert percent(Estimate(-0.1234, 0.005)) == "-12.3 ± 0.5 %"
    assert percent(Estimate(0.05, 0.0)) == "+5.0 ± 0.0 %"


@pytest.mark.parametrize(
    ("waiting", "load", "runs"),
    [(1, 0.0, "1"), (3, 0.0, "3 x 1"), (4, 0.0, "16"), (4, 0.5, "4 x 1"), (19, 0.0, "16 + 3 x 1"), (32, 0.0, "2 x 16")],
)
def test_planned_runs_are_written_as_a_sum(waiting: int, load: float, runs: str) -> None:
    assert planned_runs(BatchCosts(GUIDE_310P.two_sizes), waiting, load) == runs


def test_plans_that_differ_under_load_say_so() -> None:
    rows = plan_rows({"310P 1, 16": GUIDE_310P.two_sizes}, (3, 4))
    assert rows == [["waiting", "310P 1, 16"], ["3", "3 x 1"], ["4", "16 (busy: 4 x 1)"]]


def test_markdown_has_a_rule_below_its_headings() -> None:
    assert markdown_table([["load", "a"], ["10 %", "1"]]) == "| load | a |\n| --: | --: |\n| 10 % | 1 |"


def test_results_replace_the_old_ones_and_nothing_else(tmp_path: Path, comparisons: list[Comparison]) -> None:
    page = tmp_path / "planner.md"
    page.write_text(PAGE, encoding="utf-8")
    for settings in ("one run", "another run"):
        write_results(page, results_text(comparisons, settings))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n\nbefore\n\n{BEGIN}\n\nSIMULATED, no device was measured: another run.\n")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    assert "old figures" not in text
    assert "one run" not in text
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    assert all("SIMULATED" in heading for heading in headings if heading != "### Plans at the guide's rates")
    assert all(device.chip in text for device in GUIDE_DEVICES)


@pytest.mark.parametrize("text", ["# Title\n", f"# Title\n{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_a_place_for_results_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    page = tmp_path / "planner.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(PageError, match="has no place for the results"):
        write_results(page, "new")
    assert page.read_text(encoding="utf-8") == text


def test_the_plot_is_svg_and_the_same_for_the_same_figures(tmp_path: Path, comparisons: list[Comparison]) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    draw(comparisons[0], first)
    draw(comparisons[0], second)
    assert first.read_bytes() == second.read_bytes()
    root = ET.fromstring(first.read_bytes())  # noqa: S314 - written just now
    assert root.tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg"]


@pytest.fixture
def short_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """One device, two loads, no other processes."""

    def run_points(wanted: list[Point], done: Callable[[], None]) -> list[tuple[Point, dict[str, Figures]]]:
        done()
        return [(point, point.run()) for point in wanted]

    monkeypatch.setattr(study, "run_points", run_points)
    monkeypatch.setattr(study, "LOADS", LOADS)
    monkeypatch.setattr(study, "DEVICES", (GUIDE_310P,))
    monkeypatch.setattr(study, "make_console", lambda: Console(width=120))


@pytest.mark.usefixtures("short_study")
def test_the_command_prints_and_writes_and_says_how_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, plot = tmp_path / "planner.md", tmp_path / "planner.svg"
    page.write_text(PAGE, encoding="utf-8")
    arguments = ["--images", "1000", "--seeds", "2", "--page", str(page), "--plot", str(plot)]
    result = CliRunner().invoke(study.main, arguments)
    assert result.exit_code == 0, result.output
    assert "99th percentile of the latency, ms (310P, the guide's rates, SIMULATED)" in result.output
    assert "1,000 images per load and seed" in page.read_text(encoding="utf-8")
    assert plot.exists()
    monkeypatch.setattr(study, "ALLOWED_EXCESS", -0.9)
    assert CliRunner().invoke(study.main, arguments).exit_code == 1


@pytest.mark.usefixtures("short_study")
def test_a_missing_page_is_an_error_of_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.md"
    result = CliRunner().invoke(study.main, ["--images", "1000", "--seeds", "2", "--page", str(missing)])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert str(missing) in result.output
