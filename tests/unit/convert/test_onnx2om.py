from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from repserve_convert import onnx2om
from repserve_convert.cli import convert
from repserve_server.ascend import installation
from repserve_server.ascend.npu_smi import Chip, NpuSmiError
from support.onnx2om_harness import write_model

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

CHIP = ("--soc-version", "Ascend310P3")


@pytest.fixture(autouse=True)
def without_cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CANN, on any machine."""
    monkeypatch.setattr(installation, "ASCEND_FOLDER", str(tmp_path / "system"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in installation.HOME_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "model.onnx")


def run(source: Path, *arguments: str, into: str = "repo/repvgg_a0/1") -> Result:
    return CliRunner().invoke(convert, ["onnx2om", str(source), "--into", into, *arguments])


def refusal(source: Path, *arguments: str, into: str = "repo/repvgg_a0/1") -> str:
    """The one line that a command which fails ends with."""
    result = run(source, *arguments, into=into)
    assert result.exit_code == 1, result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    return result.output


def test_a_dry_run_prints_commands_for_a_shell(model: Path, tmp_path: Path) -> None:
    result = run(model, *CHIP, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "source /usr/local/Ascend/ascend-toolkit/set_env.sh  # its usual place; not on this machine",
        "mkdir -p repo/repvgg_a0/1",
        "cd repo/repvgg_a0/1",
        *(
            f"atc --framework=5 --model={model} --output=model_bs{size} --input_format=NCHW "
            f'--input_shape="actual_input_1:{size},3,224,224" --log=error --soc_version=Ascend310P3'
            for size in (1, 16)
        ),
    ]
    assert not (tmp_path / "repo").exists()


def test_a_dry_run_prints_the_aipp_file_as_a_shell_would_write_it(model: Path, tmp_path: Path) -> None:
    (tmp_path / "repo" / "repvgg_a0").mkdir(parents=True)
    (tmp_path / "repo" / "repvgg_a0" / "model.toml").write_text("[preprocessing]\nmean = [0.2, 0.4, 0.6]\n")
    output = run(model, *CHIP, "--gears", "16,1,4", "--aipp", "--dry-run").output
    file = re.search(r"^cat > aipp\.cfg <<'END'\n(.*^)END\n", output, re.MULTILINE | re.DOTALL)
    assert file is not None
    assert "  min_chn_0: 51\n  min_chn_1: 102\n  min_chn_2: 153\n" in file[1]
    (command,) = (line for line in output.splitlines() if line.startswith("atc "))
    assert {"--output=model_gears", "--dynamic_batch_size=1,4,16", "--insert_op_conf=aipp.cfg"} < set(
        shlex.split(command)
    )
    assert [path.name for path in (tmp_path / "repo").rglob("*")] == ["repvgg_a0", "model.toml"]


def test_a_dry_run_names_the_script_of_this_machine(model: Path, tmp_path: Path) -> None:
    script = tmp_path / "a folder" / "ascend-toolkit" / "set_env.sh"
    script.parent.mkdir(parents=True)
    script.write_text("exit 1  # is not run\n")
    output = run(model, *CHIP, "--cann", str(tmp_path / "a folder"), "--dry-run").output
    assert output.startswith(f"source '{script}'\n")


def test_without_cann_the_command_says_so_in_one_line(model: Path, tmp_path: Path) -> None:
    assert "atc was not found" in refusal(model, *CHIP)
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--batch-sizes", "1", "--gears", "1,2"), "mutually exclusive"),
        (("--gears", "8"), "--gears 8 is one size: use --batch-sizes 8"),
        (("--gears", "1,2,2"), "'1,2,2' names a size twice"),
        (("--gears", "0,1"), "expected numbers of 1 to 2048"),
        (("--gears", "1,2049"), "expected numbers of 1 to 2048"),
        (("--gears", ",".join(map(str, range(1, 102)))), "got 101, but atc takes at most 100"),
        (("--batch-sizes", "1;16"), "expected numbers of 1 to 2048, such as 1,16"),
        (("--batch-sizes", ""), "expected numbers of 1 to 2048"),
        (("--time-limit", "0"), "0.0 is not in the range"),
    ],
)
def test_options_that_make_no_sense_are_refused(model: Path, options: tuple[str, ...], message: str) -> None:
    result = run(model, *CHIP, *options)
    assert result.exit_code == 2
    assert message in result.output


def test_a_hundred_gears_are_taken(model: Path) -> None:
    gears = ",".join(map(str, range(1, 101)))
    assert f'--dynamic_batch_size="{gears}"' in run(model, *CHIP, "--gears", gears, "--dry-run").output


def test_a_fixed_batch_must_be_the_one_compiled(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", batch=4)
    for options in ((), ("--batch-sizes", "1,4"), ("--gears", "2,4")):
        assert "has the fixed batch size 4: compile it with --batch-sizes 4" in refusal(model, *CHIP, *options)
    assert "actual_input_1:4,3,224,224" in run(model, *CHIP, "--batch-sizes", "4", "--dry-run").output


def test_aipp_is_not_for_models_that_take_pixels(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", uint8=True)
    assert "compile it without --aipp" in refusal(model, *CHIP, "--aipp")
    assert '--input_format=ND --input_shape="actual_input_1:1,224,224,3"' in run(model, *CHIP, "--dry-run").output


def test_a_mean_that_aipp_cannot_take_is_found_before_atc_runs(model: Path, tmp_path: Path) -> None:
    (tmp_path / "repo" / "repvgg_a0").mkdir(parents=True)
    (tmp_path / "repo" / "repvgg_a0" / "model.toml").write_text("[preprocessing]\nmean = [123.0, 116.0, 103.0]\n")
    assert "AIPP takes means of 0 to 1" in refusal(model, *CHIP, "--aipp")


def test_the_folder_must_be_a_versions(model: Path) -> None:
    assert "not a version's folder" in refusal(model, *CHIP, into="repo/repvgg_a0/latest")


@pytest.mark.parametrize("given", ["310P3", "Ascend310P3", "ascend310P3"])
def test_the_chip_is_named_with_or_without_ascend(model: Path, given: str) -> None:
    assert "--soc_version=Ascend310P3\n" in run(model, "--soc-version", given, "--dry-run").output


@pytest.mark.parametrize("given", ["", "310 P3", "Ascend310P3; ls"])
def test_an_invalid_chip_name_is_refused(model: Path, given: str) -> None:
    assert "expected a name such as Ascend310P3" in refusal(model, "--soc-version", given)


def set_chips(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    chips = [Chip(number, 0, number, name, "OK", "0000:04:00.0") for number, name in enumerate(names)]
    monkeypatch.setattr(onnx2om, "read_chips", lambda: chips)


def test_the_chip_is_this_machines_where_it_has_one_kind(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chips(monkeypatch, "310P3", "310P3")
    assert "--soc_version=Ascend310P3\n" in run(model, "--dry-run").output
    set_chips(monkeypatch, "310P3", "310")
    assert "npu-smi shows Ascend310, Ascend310P3: name the chip with --soc-version" in refusal(model)
    set_chips(monkeypatch)
    assert "npu-smi shows no chip: name the chip with --soc-version" in refusal(model)


def test_without_npu_smi_the_chip_must_be_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Chip]:
        raise NpuSmiError("npu-smi is not there")

    monkeypatch.setattr(onnx2om, "read_chips", fail)
    assert "npu-smi is not there; name the chip with --soc-version" in refusal(model)


def test_a_path_that_atc_refuses_is_refused_before_it_runs(tmp_path: Path) -> None:
    source = write_model(tmp_path / "my models" / "means.onnx")
    into = str(tmp_path / "repo" / "means" / "1")
    result = CliRunner().invoke(
        convert, ["onnx2om", str(source), "--soc-version", "310P3", "--into", into, "--dry-run"]
    )
    assert result.exit_code == 1
    assert "atc refuses the path" in result.output
