"""Compiled models against compiled.json, the chip and model.toml: each way in which they can differ."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from repserve_server.ascend.npu_smi import Chip
from repserve_server.doctor.check import Check, Status, can_serve
from repserve_server.doctor.compiled import check_compiled
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.compiled import CompiledFolder, CompiledModel, write_compiled
from repserve_server.repository.config import ModelConfig

CHIPS = (Chip(224, 0, 0, "310P3", "OK", "0000:04:00.0"),)
DIGEST = hashlib.sha256(b"content").hexdigest()


def model(size: int, *gears: int, **fields: Any) -> CompiledModel:  # noqa: ANN401 - fields of the model
    chosen: dict[str, Any] = {"file": f"model_bs{size}.om", "aipp": False, "sha256": DIGEST} | fields
    return CompiledModel(batch_sizes=(size, *gears), **chosen)


def write_folder(folder: Path, *models: CompiledModel, **fields: Any) -> None:  # noqa: ANN401 - fields of the folder
    chosen: dict[str, Any] = {
        "soc_version": "Ascend310P3",
        "precision": "fp16",
        "source": "model.onnx",
        "source_sha256": "0" * 64,
        "models": models or (model(1), model(16)),
    } | fields
    (folder / "model.onnx").write_bytes(b"")
    compiled = CompiledFolder(**chosen)
    for written in compiled.models:
        (folder / written.file).write_bytes(b"content")
    write_compiled(folder, compiled)


def examined(folder: Path, chips: tuple[Chip, ...] = CHIPS, **config: Any) -> dict[str, Check]:  # noqa: ANN401
    settings = ModelConfig(**config)
    return {check.name: check for check in check_compiled(folder, "m/1", settings, settings.max_batch_size, chips)}


def test_files_as_they_were_compiled_are_ok(tmp_path: Path) -> None:
    write_folder(tmp_path)
    checks = examined(tmp_path)
    assert {name: (check.status, check.found) for name, check in checks.items()} == {
        "m/1/compiled.json": (Status.OK, "for Ascend310P3, which this machine has; fp16; no AIPP"),
        "m/1 batch sizes": (Status.OK, "[1, 16], max_batch_size = 16"),
        "m/1/model_bs1.om": (Status.OK, "batch size 1, without AIPP, fp16; its sha256 is as recorded"),
        "m/1/model_bs16.om": (Status.OK, "batch size 16, without AIPP, fp16; its sha256 is as recorded"),
    }


def test_gears_with_aipp_are_ok(tmp_path: Path) -> None:
    write_folder(tmp_path, model(1, 2, 4, 16, aipp=True), preprocessing=Preprocessing())
    checks = examined(tmp_path)
    assert {check.status for check in checks.values()} == {Status.OK}
    assert checks["m/1/model_bs1.om"].found.startswith("gears 1, 2, 4, 16, with AIPP")
    assert checks["m/1/compiled.json"].found.endswith("AIPP normalises as in model.toml")


def test_another_chip_is_a_problem_with_the_command_for_this_one(tmp_path: Path) -> None:
    write_folder(tmp_path, soc_version="Ascend310")
    check = examined(tmp_path)["m/1/compiled.json"]
    assert (check.status, check.found) == (
        Status.PROBLEM,
        "compiled for Ascend310, and this machine has Ascend310P3",
    )
    assert f"onnx2om {tmp_path / 'model.onnx'} --batch-sizes 1,16 --soc-version Ascend310P3" in check.advice


def test_without_npu_smi_the_chip_is_not_judged(tmp_path: Path) -> None:
    write_folder(tmp_path, soc_version="Ascend310")
    check = examined(tmp_path, chips=())["m/1/compiled.json"]
    assert (check.status, "are unknown" in check.found) == (Status.OK, True)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [("mean", (0.5, 0.5, 0.5), "[0.5, 0.5, 0.5]"), ("std", (0.2, 0.2, 0.2), "[0.2, 0.2, 0.2]"), ("crop", 192, "192")],
)
def test_a_preprocessing_that_differs_from_what_is_compiled_in_is_a_problem(
    tmp_path: Path, key: str, value: object, shown: str
) -> None:
    write_folder(tmp_path, model(1, aipp=True), preprocessing=Preprocessing())
    check = examined(tmp_path, preprocessing={key: value}, max_batch_size=1)["m/1/compiled.json"]
    assert (check.status, check.found.endswith(f"model.toml has {shown}")) == (Status.PROBLEM, True)
    assert "correct model.toml" in check.advice
    assert "--aipp" in check.advice


def test_another_resize_is_none_of_the_chips_business(tmp_path: Path) -> None:
    write_folder(tmp_path, model(1, aipp=True), preprocessing=Preprocessing())
    assert can_serve(examined(tmp_path, preprocessing={"resize": 300}, max_batch_size=1).values())


def test_a_file_that_was_changed_is_a_problem(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "model_bs16.om").write_bytes(b"torn")
    checks = examined(tmp_path)
    assert checks["m/1/model_bs1.om"].status is Status.OK
    assert checks["m/1/model_bs16.om"].status is Status.PROBLEM
    assert hashlib.sha256(b"torn").hexdigest()[:12] in checks["m/1/model_bs16.om"].found


@pytest.mark.parametrize(
    ("models", "max_batch_size", "status", "found"),
    [
        ((model(4), model(16)), 16, Status.WARNING, "a single image is padded to a batch of 4"),
        ((model(1), model(8)), 16, Status.WARNING, "larger batches never run, though max_batch_size = 16"),
        ((model(1), model(32)), 16, Status.WARNING, "sizes above max_batch_size = 16 never run"),
        ((model(32),), 16, Status.PROBLEM, "all above max_batch_size = 16"),
        ((model(1), model(1, file="other.om")), 1, Status.PROBLEM, "two files are compiled for batch size 1"),
        ((model(1, 16), model(16)), 16, Status.OK, "[1, 16], max_batch_size = 16"),
    ],
)
def test_batch_sizes_are_held_against_max_batch(
    tmp_path: Path, models: tuple[CompiledModel, ...], max_batch_size: int, status: Status, found: str
) -> None:
    write_folder(tmp_path, *models)
    check = examined(tmp_path, max_batch_size=max_batch_size)["m/1 batch sizes"]
    assert (check.status, found in check.found) == (status, True), check


def test_files_without_a_compiled_json_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "model_bs1.om").write_bytes(b"")
    (check,) = examined(tmp_path).values()
    assert (check.status, check.advice.endswith("which writes it")) == (Status.WARNING, True)


def test_a_compiled_json_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "compiled.json").write_text("{}", encoding="utf-8")
    (check,) = examined(tmp_path).values()
    assert (check.status, "soc_version" in check.found) == (Status.PROBLEM, True)


def test_files_that_are_not_written_down_and_ones_that_are_gone_are_warnings(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "model_bs16.om").rename(tmp_path / "mine.om")
    checks = examined(tmp_path)
    assert checks["m/1 files"].found == "compiled.json names model_bs16.om, which no longer exists"
    assert "not in compiled.json" in checks["m/1/mine.om"].found
    assert {checks[name].status for name in ("m/1 files", "m/1/mine.om")} == {Status.WARNING}
