from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from repserve_bench.command import LEAST_WIDTH
from repserve_bench.guide_table import MeasuredRow, guide_tables, shortfalls

CPU = MeasuredRow(
    device="cpu",
    backend="openvino",
    precision="bf16",
    model="repvgg_a0",
    max_batch_size=1,
    fps=147.23,
    simulated=False,
    top1=None,
    top1_missing="not measured: RANDOM WEIGHTS (RepVGG-A0, seed 0).",
)
SIMULATED = replace(
    CPU,
    device="sim:310p",
    backend="simulated",
    precision="none",
    max_batch_size=16,
    fps=8741.94,
    simulated=True,
    top1_missing="not measured: simulated",
)


def render(*rows: MeasuredRow, width: int = LEAST_WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    for table in guide_tables(rows):
        table.print(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def markdown(rows: list[MeasuredRow]) -> str:
    return "\n".join(table.markdown() for table in guide_tables(rows))


def line_with(text: str, *parts: str) -> str:
    return next(line for line in text.splitlines() if all(part in line for part in parts))


def test_published_and_measured_figures_stand_in_one_line() -> None:
    text = render(CPU, SIMULATED)
    bs1 = line_with(text, "RepVGG bs1 ")
    for part in ("72.418", "72.15", "1128", "1112", "1919", "cpu openvino bf16", "147.2"):
        assert part in bs1
    bs16 = line_with(text, "RepVGG bs16")
    for part in ("72.418", "72.15", "4784", "7115", "8752", "sim:310p SIMULATED", "8741.9"):
        assert part in bs16


def test_simulated_and_random_rows_say_that_no_accuracy_was_measured() -> None:
    text = " ".join(render(CPU, SIMULATED).split())
    assert "RANDOM WEIGHTS" in text
    assert "not measured: simulated" in text


def test_no_figure_is_cut_on_a_narrow_terminal() -> None:
    text = render(CPU, SIMULATED, width=80)
    for figures in (("72.418", "72.15", "1919", "147.2"), ("72.418", "72.15", "4784", "7115", "8752", "8741.9")):
        assert line_with(text, *figures)
    assert "SIMULATED" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_measured_accuracy_is_in_percent() -> None:
    assert replace(CPU, top1=0.7215).cells()["top1"] == "72.15"


def test_a_second_device_gets_a_row_of_its_own_beside_the_same_published_figures() -> None:
    text = render(CPU, replace(SIMULATED, max_batch_size=1))
    assert sum("1919" in line for line in text.splitlines()) == 2


def test_a_batch_size_that_was_not_measured_still_shows_what_is_published() -> None:
    assert "8752" in line_with(render(CPU), "RepVGG bs16")


def test_a_batch_size_that_is_not_published_shows_dashes() -> None:
    line = line_with(render(replace(CPU, max_batch_size=8)), "RepVGG bs8")
    assert "1919" not in line
    assert "147.2" in line


def test_markdown_has_the_same_rows_and_the_source() -> None:
    text = markdown([CPU, SIMULATED])
    row = line_with(text, "RepVGG bs1 ")
    cells = (
        "RepVGG bs1 | 72.418 | 72.15 | 1128 | 1112 | 1919 | cpu openvino bf16 | 147.2 | not measured: RANDOM WEIGHTS"
    )
    assert row == f"| {cells} |"
    assert "8752" in text
    assert "section 8" in text
    assert "card of four chips" in text


def test_a_simulated_device_that_waited_for_images_is_reported() -> None:
    slow = replace(SIMULATED, fps=4000.0)
    (line,) = shortfalls([CPU, SIMULATED, slow])
    assert "sim:310p at max batch size 16: the device reaches 8752 fps; 4000.0" in line
    assert line in markdown([slow])


def test_one_chip_of_a_310_card_takes_a_quarter() -> None:
    assert shortfalls([replace(SIMULATED, device="sim:310", fps=1770.0)]) == []
    (line,) = shortfalls([replace(SIMULATED, device="sim:310", fps=1000.0)])
    assert "1779 fps" in line


def test_another_network_never_stands_in_the_guides_rows() -> None:
    other = replace(CPU, model="mobileone_s0", top1=0.808, repvgg_a0=False)
    alone = render(other)
    assert line_with(alone, "mobileone_s0 bs1", "147.2", "80.80")
    for published in ("72.418", "1919", "RepVGG bs1"):
        assert published not in alone
    both = render(CPU, other)
    assert "80.80" not in line_with(both, "RepVGG bs1 ")
    assert line_with(both, "mobileone_s0 bs1", "80.80")
    assert "1919" not in line_with(markdown([CPU, other]), "mobileone_s0")


def test_without_a_measured_row_there_is_no_table() -> None:
    assert guide_tables([]) == []
