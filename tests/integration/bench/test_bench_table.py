from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from repserve_bench.cli import bench
from repserve_client.cli import main

MODEL_REPOSITORY = Path(__file__).parents[3] / "model_repo"


def run_table(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(bench, ["table", "--model-repository", str(MODEL_REPOSITORY), *options])
    return result.exit_code, result.output


def test_the_table_of_a_simulated_device_is_measured_through_real_servers(tmp_path: Path) -> None:
    repository, output, markdown = tmp_path / "models", tmp_path / "table.json", tmp_path / "table.md"
    version = repository / "repvgg_a0" / "1"
    made = CliRunner().invoke(main, ["convert", "random", "--variant", "A0", "--into", str(version)])
    assert made.exit_code == 0, made.output
    images = MODEL_REPOSITORY / "repvgg_digits" / "validation" / "images"
    status, text = run_table(
        *("--model-repository", str(repository), "--images", str(images), "--device", "sim:310p", "--seconds", "0.3"),
        *("--output", str(output), "--markdown", str(markdown)),
    )
    assert status == 0, text
    for part in ("1919", "8752", "sim:310p SIMULATED", "not measured: simulated", "16 images per request"):
        assert part in text
    assert "8752" in markdown.read_text(encoding="utf-8")
    content = json.loads(output.read_text(encoding="utf-8"))
    assert [(row["max_batch_size"], row["simulated"], row["top1"]) for row in content["rows"]] == [
        (1, True, None),
        (16, True, None),
    ]
    assert all(row["fps"] > 0 for row in content["rows"])
    assert content["failed_requests"] == 0


def test_a_real_accuracy_of_another_network_stands_in_a_table_of_its_own() -> None:
    validation = MODEL_REPOSITORY / "repvgg_digits" / "validation"
    status, text = run_table(
        *("--model", "repvgg_digits", "--device", "cpu", "--precision", "f32", "--seconds", "0.1"),
        *("--images", str(validation / "images"), "--labels", str(validation / "val_label.txt")),
    )
    assert status == 0, text
    card = json.loads((MODEL_REPOSITORY / "repvgg_digits" / "model_card.json").read_text(encoding="utf-8"))
    rows = [line for line in text.splitlines() if "cpu openvino f32" in line]
    assert len(rows) == 2
    assert all(f"{100 * card['top1']:.2f}" in row for row in rows)
    assert all("repvgg_digits" in row for row in rows)
    assert "1919" not in text, "the guide's figures are those of another network"


@pytest.mark.parametrize("options", [["--labels", __file__], ["--seconds", "0"]])
def test_options_that_make_no_sense_are_refused(options: list[str]) -> None:
    assert run_table(*options)[0] == 2


def test_a_device_that_is_not_known_is_an_error_with_the_servers_words() -> None:
    status, text = run_table("--model", "repvgg_digits", "--device", "gpu:7", "--seconds", "0.1")
    assert status == 1
    assert "gpu:7" in text
