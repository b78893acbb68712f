from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import onnx
import pytest
from click.testing import CliRunner

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.cli import convert
from repserve_convert.errors import ConversionError, require
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import reparameterise

if TYPE_CHECKING:
    from click.testing import Result

    from repserve_convert.reparameterise import State


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Make an installed package look as if it were not."""
    monkeypatch.setitem(sys.modules, missing, None)


def test_random_writes_a_model_and_a_note_on_its_use(tmp_path: Path) -> None:
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


def test_random_makes_grouped_variants_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grouped variant small enough for a test stands in for B1g2."""
    small = Variant("B1g2", (2, 2, 2, 1), (1 / 8, 1 / 8, 1 / 8, 1 / 8), groups=2)
    monkeypatch.setitem(VARIANTS, "B1g2", small)
    result = CliRunner().invoke(convert, ["random", "--variant", "b1g2", "--classes", "3", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    groups = [
        attribute.i
        for node in onnx.load(tmp_path / "model.onnx").graph.node
        for attribute in node.attribute
        if attribute.name == "group"
    ]
    assert groups == [1, 1, 2, 1, 2, 1, 2, 1]


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


class Weights:
    """A .pth file as the command sees it where torch is not: what it holds, and whether the model agrees with it."""

    def __init__(self, path: Path, state: State) -> None:
        self.path = path
        self.state = state
        self.problem: str | None = None
        self.verified: list[str] = []

    def load(self, path: Path) -> State:
        assert path == self.path
        return self.state

    def largest_difference(self, *arguments: object) -> float:
        model = arguments[2]
        assert isinstance(model, Path)
        onnx.checker.check_model(onnx.load(model))
        self.verified.append(model.name)
        if self.problem is not None:
            raise ConversionError(self.problem)
        return 2.4e-6

    def convert(self, target: Path, *options: str) -> Result:
        return CliRunner().invoke(convert, ["pth2onnx", str(self.path), str(target), *options])


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Random weights of the digits network, in the train form."""
    found = Weights(tmp_path / "in.pth", random_state(VARIANTS["digits"], 10, seed=0))
    found.path.write_bytes(b"")
    monkeypatch.setattr("repserve_convert.pth2onnx.load_pth", found.load)
    torch_part = SimpleNamespace(CELLS=(1, 2, 3), largest_difference=found.largest_difference)
    monkeypatch.setitem(sys.modules, "repserve_convert.verification", torch_part)
    return found


def test_variants_are_found_in_any_case_and_unknown_ones_listed(tmp_path: Path) -> None:
    arguments = ["random", "--classes", "2", "--into", str(tmp_path / "1"), "--variant"]
    assert "RepVGG-digits" in CliRunner().invoke(convert, [*arguments, "DIGITS"]).output
    result = CliRunner().invoke(convert, [*arguments, "C7"])
    assert result.exit_code == 2
    assert "'C7' is not one of 'a0', 'a1'" in result.output


def test_pth2onnx_writes_the_model_and_drops_the_note_on_random_weights(tmp_path: Path, weights: Weights) -> None:
    target = tmp_path / "1" / "model.onnx"
    CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(target.parent)])
    result = weights.convert(target)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[0] == (
        "train form and deployed outputs agree: max abs error 2.4e-06 over 3 images"
    )
    assert "RepVGG-digits, 10 classes, opset 11, takes float32 images" in result.output
    assert "it described the random weights that were here" in result.output
    assert onnx.load(target).doc_string == "converted from in.pth"
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]


def test_pth2onnx_keeps_the_note_of_another_file(tmp_path: Path, weights: Weights) -> None:
    CliRunner().invoke(convert, ["random", "--variant", "digits", "--into", str(tmp_path / "1")])
    result = weights.convert(tmp_path / "1" / "other.onnx")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "1" / "WEIGHTS.txt").exists()


def test_pth2onnx_writes_the_requested_form(tmp_path: Path, weights: Weights) -> None:
    target = tmp_path / "model.onnx"
    result = weights.convert(target, "--keep-branches", "--uint8", "--opset", "17")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("train form and multi-branch model outputs agree: ")
    assert "RepVGG-digits with its branches, 10 classes, opset 17, takes uint8 pixels" in result.output
    model = onnx.load(target)
    assert model.opset_import[0].version == 17
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}


def test_pth2onnx_verifies_the_file_before_it_takes_its_place(tmp_path: Path, weights: Weights) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    weights.problem = "a logit differs by 3"
    result = weights.convert(target)
    assert result.exit_code == 1
    assert result.output == "Error: a logit differs by 3\n"
    assert weights.verified == ["model.onnx.partial"]
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pth", "model.onnx"]


def test_pth2onnx_refuses_another_variant_and_writes_nothing(tmp_path: Path, weights: Weights) -> None:
    target = tmp_path / "new" / "model.onnx"
    result = weights.convert(target, "--variant", "A0")
    assert result.exit_code == 1
    assert "stage0.rbr_dense.conv.weight" in result.output
    assert "RepVGG-A0" in result.output
    assert result.output.rstrip().endswith("its shapes are those of digits")
    assert not target.parent.exists()


def test_pth2onnx_names_the_first_bad_key_and_writes_nothing(tmp_path: Path, weights: Weights) -> None:
    for key in list(weights.state)[50:]:
        del weights.state[key]
    first = list(VARIANTS["digits"].train_time_shapes(10))[50]
    result = weights.convert(tmp_path / "model.onnx")
    assert result.exit_code == 1
    assert f"Error: the nearest RepVGG variant is digits: key '{first}' is missing" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_pth2onnx_takes_the_deployed_form_and_says_what_was_compared(tmp_path: Path, weights: Weights) -> None:
    expected = tmp_path / "expected.onnx"
    assert weights.convert(expected).exit_code == 0
    weights.state = reparameterise(weights.state, VARIANTS["digits"])
    result = weights.convert(tmp_path / "model.onnx")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("outputs of the file's deployed convolutions (it has no train form)")
    assert (tmp_path / "model.onnx").read_bytes() == expected.read_bytes()


def test_pth2onnx_cannot_keep_branches_that_are_not_there(tmp_path: Path, weights: Weights) -> None:
    weights.state = reparameterise(weights.state, VARIANTS["digits"])
    result = weights.convert(tmp_path / "model.onnx", "--keep-branches")
    assert result.exit_code == 1
    assert "has no branches to keep" in result.output
    assert not (tmp_path / "model.onnx").exists()


def test_pth2onnx_refuses_an_old_opset(tmp_path: Path, weights: Weights) -> None:
    result = weights.convert(tmp_path / "model.onnx", "--opset", "9")
    assert result.exit_code == 1
    assert "opset 9 cannot be written: expected 11" in result.output
    assert not (tmp_path / "model.onnx").exists()


def test_pth2onnx_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, ["pth2onnx", str(tmp_path / "none.pth"), str(tmp_path / "model.onnx")])
    assert result.exit_code == 2
    assert "none.pth" in result.output
