"""The stand-in for atc refuses what the vendor's reference says that atc refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from repserve_convert.aipp import aipp_text
from repserve_server.imaging.preprocessing import Preprocessing
from standin.model_file import read
from support.onnx2om_harness import write_model
from support.standin_atc import main

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "framework": "5",
    "model": "means.onnx",
    "output": "model_bs16",
    "input_format": "NCHW",
    "input_shape": "actual_input_1:16,3,224,224",
    "log": "error",
    "soc_version": "Ascend310P3",
}
DYNAMIC = {"input_shape": "actual_input_1:-1,3,224,224", "dynamic_batch_size": "1,16"}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "means.onnx")
    (tmp_path / "aipp.cfg").write_text(aipp_text(Preprocessing()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STANDIN_ATC_FAULT", raising=False)


def run(**changes: str) -> int:
    return main([f"--{name}={value}" for name, value in {**GOOD, **changes}.items()])


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [({}, (16,)), (DYNAMIC, (1, 16)), ({"insert_op_conf": "aipp.cfg"}, (16,)), ({"input_format": "ND"}, (16,))],
)
def test_it_compiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], sizes: tuple[int, ...]
) -> None:
    assert run(**changes) == 0
    assert capsys.readouterr().out.endswith("ATC run success, welcome to the next use.\n")
    header, content = read(tmp_path / "model_bs16.om")
    assert (header.batch_sizes, header.aipp) == (sizes, "insert_op_conf" in changes)
    assert content == (tmp_path / "means.onnx").read_bytes()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"input_format": "NHWC"}, "E10001"),
        ({"precision_mode": "fp16"}, "E10001"),
        ({"model": "gone.onnx"}, "E10001"),
        ({"framework": ""}, "E10007"),
        ({"soc_version": ""}, "E10054"),
        ({"soc_version": "310P3"}, "EE1001"),
        ({"input_shape": "image:16,3,224,224"}, "E10016"),
        ({"input_shape": "16,3,224,224"}, "E10002"),
        ({"input_shape": "actual_input_1:16,3,224"}, "E10049"),
        ({"input_shape": "actual_input_1:16,3,96,96"}, "E19999"),
        ({"input_shape": "actual_input_1:-1,3,224,224"}, "E10011"),
        ({"dynamic_batch_size": "1,16"}, "E10031"),
        ({**DYNAMIC, "input_shape": "actual_input_1:-1,3,-1,224"}, "E10018"),
        ({**DYNAMIC, "dynamic_batch_size": "1;16"}, "E10003"),
        ({**DYNAMIC, "dynamic_batch_size": "16"}, "E10035"),
        ({**DYNAMIC, "dynamic_batch_size": "1,16,16"}, "E10039"),
        ({**DYNAMIC, "dynamic_batch_size": ",".join(map(str, range(1, 102)))}, "E10036"),
        ({"insert_op_conf": "aipp.cfg", "input_format": "ND"}, "E10052"),
        ({"insert_op_conf": "aipp.cfg", "input_shape": "actual_input_1:16,3,96,96"}, "E19999"),
        ({"batch_size": "16"}, "E10059"),
    ],
)
def test_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], code: str) -> None:
    assert run(**changes) == 255
    lines = capsys.readouterr().out.splitlines()
    assert "ATC run failed, Please check the detail log, Try 'atc --help' for more information" in lines
    assert any(line.startswith(f"{code}: ") for line in lines)
    assert not list(tmp_path.glob("*.om"))


def test_the_aipp_file_must_fit_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aipp.cfg").write_text(aipp_text(Preprocessing(crop=96)))
    assert run(insert_op_conf="aipp.cfg") == 255
    assert "E70014: " in capsys.readouterr().out
