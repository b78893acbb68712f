"""docs/ascend.md, followed from an empty server to the table, with stand-ins for atc, the driver and the chip."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.harness import ROOT
from support.pages import Workplace, commands, flags_of, own_commands

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "ascend.md").read_text(encoding="utf-8")
DIGITS_TOP1 = "99.44"
FIRST_LOOK = "repserve doctor --device npu:0"


@pytest.mark.parametrize("words", own_commands(PAGE), ids=" ".join)
def test_every_flag_exists(words: list[str]) -> None:
    used, known = flags_of(words)
    assert used <= known


def test_every_program_is_known() -> None:
    assert {words[0] for words in commands(PAGE)} == {"repserve", "source", "npu-smi", "python3", ".venv/bin/pip"}


@pytest.mark.slow
def test_the_page_leads_from_an_empty_server_to_the_table(tmp_path: Path) -> None:
    """Before there is a model, the doctor says so and exits with 1; everything else succeeds."""
    workplace = Workplace(tmp_path)
    printed = workplace.follow(commands(PAGE), lambda text: int(text == FIRST_LOOK))

    def output(part: str) -> str:
        (found,) = [text for command, text in printed if part in command]
        return found

    before, after = dict(printed)[FIRST_LOOK], output("doctor --device npu:0 --model repvgg_a0")
    assert "it has no version yet" in before
    assert "repvgg_a0 on npu:0: loaded with acl" in after
    assert "atc --framework=5" in output("--dry-run")
    version = tmp_path / "model_repo" / "repvgg_a0" / "1"
    assert {file.name for file in version.iterdir()} == {
        *("model.onnx", "model_bs1.om", "model_bs16.om", "compiled.json")
    }
    assert f"{DIGITS_TOP1} %" in output("bench run")
    rows = [line for line in output("bench table").splitlines() if "npu:0" in line and "acl" in line]
    assert len(rows) >= 2
    assert output("bench table").count(DIGITS_TOP1) == 2
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    top1 = next(entry["value"] for entry in result["value"] if entry["key"] == "Top1 accuracy")
    assert top1 == f"{DIGITS_TOP1}%"
    assert output("offline parse").startswith("310P bs16 fps:")
    assert DIGITS_TOP1 in output("offline all")
