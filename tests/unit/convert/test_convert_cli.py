from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import onnx
import pytest
from click.testing import CliRunner

from repserve_convert.architecture import VARIANTS
from repserve_convert.cli import convert
from repserve_convert.errors import ConversionError, require
from repserve_convert.random_weights import random_state

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_convert.reparameterise import State


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Make an installed package look as if it were not."""
    monkeypatch.setitem(sys.modules, missing, None)


def test_random_writes_a_model_and_says_what_it_is_worth(tmp_path: Path) -> None:
    folder = tmp_path / "repvgg_digits" / "1"
    arguments = ["random", "--variant", "digits", "--classes", "10", "--seed", "5", "--into", str(folder)]
    result = CliRunner().invoke(convert, arguments)
    assert result.exit_code == 0, result.output
    for text in (result.output, (folder / "WEIGHTS.txt").read_text()):
        assert "RANDOM WEIGHTS (RepVGG-digits, 10 classes, seed 5)" in text
        assert "speed measurements only" in text
    model = folder / "model.onnx"
    assert onnx.load(model).doc_string == "random weights, seed 5"
    first = model.read_bytes()
    assert CliRunner().invoke(convert, arguments).exit_code == 0
    assert model.read_bytes() == first


def test_random_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    result = CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(tmp_path / "1")])
    assert result.exit_code == 0, result.output


def test_random_never_replaces_another_model(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"trained")
    result = CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(tmp_path)])
    assert result.exit_code == 1
    assert "was not made by this command" in result.output
    assert model.read_bytes() == b"trained"


def test_missing_onnx_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnx")
    result = CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(tmp_path / "1")])
    assert result.exit_code == 1
    assert "onnx is not installed: pip install 'repserve[bench]'" in result.output
    assert not (tmp_path / "1").exists()


def test_missing_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.pth"
    source.write_bytes(b"")
    without(monkeypatch, "torch")
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(tmp_path / "out.onnx")])
    assert result.exit_code == 1
    assert "torch is not installed: pip install 'repserve[convert]'" in result.output


def test_a_missing_part_of_an_installed_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "sklearn.datasets")
    with pytest.raises(ConversionError, match=r"sklearn\.datasets is not installed"):
        require("sklearn.datasets")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> State:
    """What the command takes for the content of any .pth file."""
    state = random_state(VARIANTS["digits"], 10, seed=0)
    monkeypatch.setattr("repserve_convert.cli.load_pth", lambda _: state)
    return state


@pytest.mark.usefixtures("trained")
def test_pth2onnx_writes_the_model_and_drops_the_note_on_random_weights(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "1" / "model.onnx"
    source.write_bytes(b"")
    CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(target.parent)])
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(target), "--variant", "digits"])
    assert result.exit_code == 0, result.output
    assert "10 classes" in result.output
    assert onnx.load(target).doc_string == "converted from in.pth"
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]


@pytest.mark.usefixtures("trained")
def test_pth2onnx_refuses_another_variant_and_writes_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "model.onnx"
    source.write_bytes(b"")
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(target)])
    assert result.exit_code == 1
    assert "stage0.rbr_dense.conv.weight" in result.output
    assert "RepVGG-A0" in result.output
    assert not target.exists()


def test_pth2onnx_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, ["pth2onnx", str(tmp_path / "none.pth"), str(tmp_path / "model.onnx")])
    assert result.exit_code == 2
    assert "none.pth" in result.output
