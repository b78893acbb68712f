"""The README's commands, taken from its text: their flags exist, and they do what it says on the shipped models."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from support.harness import ROOT, RunningServer
from support.pages import Workplace, commands, fenced, flags_of, own_commands

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")
README_ZH = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = commands(README)
OWN = own_commands(README)


def test_commands_are_read_from_the_text() -> None:
    text = "```sh\n# a comment\na --b \\\n  c   # why\n\nd 'e f'\n```\n```python\nno\n```\n"
    assert commands(text) == [["a", "--b", "c"], ["d", "e f"]]


def test_every_subcommand_is_shown_and_every_program_is_known() -> None:
    shown = {tuple(words[: 2 if words[0] in {"bench", "convert"} else 1]) for words in OWN}
    assert shown == {
        *(("models",), ("serve",), ("classify",), ("doctor",)),
        *(("bench", "run"), ("bench", "saturate"), ("bench", "table")),
        *(("convert", "random"), ("convert", "pth2onnx"), ("convert", "onnx2om")),
    }
    assert {words[0] for words in COMMANDS} == {"repserve", "make", "pip", "curl", "source"}


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_every_flag_exists(words: list[str]) -> None:
    used, known = flags_of(words)
    assert used <= known


def test_a_flag_that_does_not_exist_is_noticed() -> None:
    used, known = flags_of(["bench", "run", "--images", "x", "--label", "y"])
    assert used - known == {"--label"}


def guide_steps(page: str) -> list[list[str]]:
    """The commands in the last column of the table of the guide's steps."""
    rows = [line for line in page.splitlines() if re.match(r"\| (\d|all of|\d 到)", line) and "repserve" in line]
    assert len(rows) == 9
    return [re.findall(r"`repserve ([^`]+)`", row)[-1].removesuffix(" ...").split() for row in rows]


@pytest.mark.parametrize("words", guide_steps(README), ids=" ".join)
def test_the_commands_for_the_guides_steps_exist(words: list[str]) -> None:
    used, known = flags_of(words)
    assert used <= known


def test_the_chinese_page_has_the_same_commands_and_figures() -> None:
    assert commands(README_ZH) == COMMANDS
    assert guide_steps(README_ZH) == guide_steps(README)
    figures = [re.findall(r"[\d.]+", line) for line in README.splitlines() if line.startswith("| RepVGG bs")]
    assert [re.findall(r"[\d.]+", line) for line in README_ZH.splitlines() if line.startswith("| RepVGG bs")] == figures


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_every_make_target_exists(words: list[str]) -> None:
    assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "pip"], ids=" ".join)
def test_every_extra_exists(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"\[([\w,]+)\]", words[-1])
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[$", project, re.MULTILINE)


@pytest.mark.slow
def test_the_commands_do_what_they_say_in_the_order_of_the_page(tmp_path: Path) -> None:
    printed = Workplace(tmp_path).follow(COMMANDS)
    pages = "\n".join(output for _, output in printed)
    assert "repserve convert random --variant A0 --into model_repo/repvgg_a0/1" in pages
    assert "8752" in pages
    assert "SIMULATED" in pages
    assert (tmp_path / "report.json").exists()
    digits = next(output for text, output in printed if "bench run --model repvgg_digits" in text)
    assert "99.44 %" in digits
    classified = next(output for text, output in printed if "classify" in text)
    assert re.search(r"^ +1 +1 +one ", classified, re.MULTILINE)
    table = next(output for text, output in printed if "bench table --device npu:0" in text)
    assert table.count("npu:0 acl") == 2


def test_the_python_example_prints_a_class(tmp_path: Path) -> None:
    (example,) = fenced(README, "python")
    workplace = Workplace(tmp_path)
    with RunningServer("--model", "repvgg_digits") as server:
        script = example.replace("127.0.0.1:8001", server.address)
        assert script != example
        assert workplace.run([sys.executable, "-c", script]).startswith("one 0.9")
