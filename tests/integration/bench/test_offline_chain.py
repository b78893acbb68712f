"""The guide's chain, command by command and all at once, with real models; the guide's own readers are the judges."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from repserve_bench.offline.cli import offline
from support.guide_oracle import (
    original_info,
    original_predictions,
    original_result,
    original_scores,
    original_throughput,
)
from support.harness import DIGITS, card_predictions, digit_files
from support.reference_preprocessing import reference_tensor

MODEL = DIGITS / "1" / "model.onnx"
LABELS = DIGITS / "validation" / "val_label.txt"
IMAGES = 37
DATA = Path(os.environ.get("REPSERVE_REAL_DATA", ""))
needs_real_data = pytest.mark.skipif(
    "REPSERVE_REAL_DATA" not in os.environ, reason="REPSERVE_REAL_DATA does not name a folder of real images"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(offline, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def values(result: Path) -> list[tuple[str, float]]:
    content = json.loads(result.read_text(encoding="utf-8"))
    assert content["title"] == "Overall statistical evaluation"
    return [(item["key"], float(item["value"].rstrip("%"))) for item in content["value"]]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few digits in a folder of their own, within the working directory of the commands."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "val"
    folder.mkdir()
    for file in digit_files()[:IMAGES]:
        shutil.copy(file, folder)
    return folder


def test_the_guides_commands_one_after_the_other(images: Path, tmp_path: Path) -> None:
    assert "37 of 37 images written" in succeed("preprocess", "repvgg", images, "./prep_dataset", "--exact")
    succeed("info", "bin", "./prep_dataset", "./RepVGG_prep_bin.info", 224, 224)
    rows = original_info(tmp_path / "RepVGG_prep_bin.info")
    assert rows[0] == (0, "./prep_dataset/digit_00021.bin", 224, 224)
    assert [Path(path).read_bytes() for _, path, _, _ in rows] == [
        reference_tensor(file.read_bytes()).tobytes() for file in sorted(images.iterdir())
    ]

    output = succeed(
        *("infer", "-model_type=vision", "-device_id=0", "-batch_size=16", f"-om_path={MODEL}"),
        *("-input_text_path=./RepVGG_prep_bin.info", "-input_width=224", "-input_height=224"),
        *("-output_binary=False", "-useDvpp=False"),
    )
    assert "cpu (openvino, f32), batch size 16" in output
    dumps = tmp_path / "result" / "dumpOutput_device0"
    predictions = original_predictions(dumps)
    card = {Path(name).stem: index for name, index in card_predictions().items()}
    assert predictions == {file.stem: card[file.stem] for file in images.iterdir()}

    perf = "result/perf_vision_batchsize_16_device_0.txt"
    assert len(Path(perf).read_text(encoding="utf-8").splitlines()) == 5
    batch_size, fps = original_throughput(perf)
    assert batch_size == "16"
    assert succeed("parse", perf, "310P") == f"310P bs16 fps:{fps}\n"
    assert succeed("parse", perf, "310") == f"310 bs16 fps:{4 * fps}\n"

    output = succeed("postprocess", "result/dumpOutput_device0/", LABELS, "./result.json")
    expected = original_result(dumps, LABELS)
    assert values(tmp_path / "result.json") == expected
    assert f"top-1 {dict(expected)['Top1 accuracy']:.2f} %" in output
    succeed("postprocess", "result/dumpOutput_device0/", LABELS, "older", "result.json")
    assert (tmp_path / "older" / "result.json").read_bytes() == (tmp_path / "result.json").read_bytes()
    assert succeed("parse", "result.json", "310P").rstrip("\n") == (tmp_path / "result.json").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "RepVGG_prep_bin.info", "older", "prep_dataset", "result", "result.json", "val",
    ]  # fmt: skip


@pytest.mark.parametrize("exact", [(), ("--exact",)])
def test_all_writes_the_same_files_as_the_single_commands(images: Path, tmp_path: Path, exact: tuple[str, ...]) -> None:
    succeed("preprocess", "repvgg", images, "prep", "--processes", 1, *exact)
    succeed("info", "bin", "prep", "prep.info", 224, 224)
    succeed("infer", "--om-path", MODEL, "--input-text-path", "prep.info", "--batch-size", 8)
    succeed("postprocess", "result/dumpOutput_device0", LABELS, "result.json")
    chosen = ("--model", MODEL, "--images", images, "--labels", LABELS, "--batch-size", 8)
    output = succeed("all", *chosen, *exact, "--dumps", "--output", "at_once")
    assert (tmp_path / "at_once" / "result.json").read_bytes() == (tmp_path / "result.json").read_bytes()
    steps, at_once = (tmp_path / name / "dumpOutput_device0" for name in ("result", "at_once"))
    assert original_scores(at_once) == original_scores(steps)
    _, fps = original_throughput("at_once/perf_vision_batchsize_8_device_0.txt")
    assert f"cpu bs8 fps:{fps}\n" in output
    assert f"{DIGITS / 'model.toml'}" in output
    for name in ("result.json", "dumpOutput_device0", "perf_vision_batchsize_8_device_0.txt"):
        assert f"at_once/{name}" in output
    succeed("all", *chosen, "--output", "without_dumps")
    assert sorted(path.name for path in (tmp_path / "without_dumps").iterdir()) == [
        "perf_vision_batchsize_8_device_0.txt",
        "result.json",
    ]


def test_binary_dumps_and_images_in_the_info_file_give_the_same_accuracy(images: Path, tmp_path: Path) -> None:
    succeed("info", "jpg", images, "jpg.info")
    assert original_info(tmp_path / "jpg.info")[0] == (0, f"{images}/digit_00021.jpg", 128, 96)
    for binary in (False, True):
        folder = f"{binary}"
        chosen = (f"-om_path={MODEL}", "-input_text_path=jpg.info", f"-output_binary={binary}", "--output", folder)
        succeed("infer", *chosen, "--batch-size", 16, "-device_id", 2)
        succeed("postprocess", f"{folder}/dumpOutput_device2", LABELS, f"{folder}.json")
    assert (tmp_path / "True.json").read_bytes() == (tmp_path / "False.json").read_bytes()
    assert (tmp_path / "True" / "dumpOutput_device2" / "digit_00021_1.bin").stat().st_size == 40


def test_a_bad_image_is_named_and_the_others_are_done(images: Path, tmp_path: Path) -> None:
    (tmp_path / "prep").mkdir()
    (tmp_path / "prep" / "digit_00021.bin").write_bytes(b"of an earlier run")
    (images / "digit_00021.jpg").write_bytes((images / "digit_00021.jpg").read_bytes()[:200])
    result = run("preprocess", "repvgg", images, "prep")
    assert result.exit_code == 1
    assert "val/digit_00021.jpg: the JPEG image cannot be decoded" in result.stderr
    assert "36 of 37 images written" in result.stdout
    assert "1 image was left out" in result.stderr
    assert not (tmp_path / "prep" / "digit_00021.bin").exists()
    assert len(list((tmp_path / "prep").iterdir())) == IMAGES - 1

    succeed("info", "bin", "prep", "prep.info", 224, 224)
    succeed("infer", "--om-path", MODEL, "--input-text-path", "prep.info")
    succeed("postprocess", "result/dumpOutput_device0", LABELS, "result.json")
    result = run("all", "--model", MODEL, "--images", images, "--labels", LABELS, "--output", "at_once")
    assert result.exit_code == 1
    assert "val/digit_00021.jpg: the JPEG image cannot be decoded" in result.stderr
    assert (tmp_path / "at_once" / "result.json").read_bytes() == (tmp_path / "result.json").read_bytes()


def test_tensors_of_other_images_are_pointed_out(images: Path, tmp_path: Path) -> None:
    (tmp_path / "prep").mkdir()
    (tmp_path / "prep" / "stranger.bin").write_bytes(b"x")
    result = run("preprocess", "repvgg", images, "prep")
    assert result.exit_code == 0
    assert "prep also holds 1 .bin files that belong to none of these images" in result.stderr


def test_a_simulated_device_never_pretends(images: Path, tmp_path: Path) -> None:
    (tmp_path / "RepVGG_bs16.om").write_bytes(b"not looked at")
    succeed("info", "jpg", images, "jpg.info")
    chosen = ("--device", "sim:310p", "--batch-size", 16)
    output = succeed("infer", "--om-path", "RepVGG_bs16.om", "--input-text-path", "jpg.info", *chosen)
    assert output.count("SIMULATED") == 2
    perf = "result/perf_vision_batchsize_16_device_0.txt"
    assert Path(perf).read_text().splitlines()[5].startswith("SIMULATED")
    _, fps = original_throughput(perf)
    assert 0 < fps < 1.05 * 8752, "37 of 48 rows were images"
    parsed = run("parse", perf, "310P")
    assert (parsed.stdout, parsed.exit_code) == (f"310P bs16 fps:{fps}\n", 0)
    assert "SIMULATED" in parsed.stderr
    result = run("postprocess", "result/dumpOutput_device0", LABELS, "result.json")
    assert (result.exit_code, "made up by a simulated device" in result.stderr) == (1, True)
    output = succeed("all", "--model", "RepVGG_bs16.om", "--images", images, "--labels", LABELS, *chosen)
    assert "sim:310p SIMULATED bs16 fps:" in output
    assert "accuracy: not measured" in output
    assert "top-1" not in output
    assert not (tmp_path / "result.json").exists()
    assert not (tmp_path / "result" / "result.json").exists()


@needs_real_data
def test_real_photos_through_the_single_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = DATA / "labels" / "imagenet_val20.txt"
    succeed("preprocess", "repvgg", DATA / "imagenet_val20", "prep", "--exact")
    succeed("info", "bin", "prep", "prep.info", 224, 224)
    succeed("infer", f"-om_path={DATA / 'models' / 'mobileone_s0.onnx'}", "-input_text_path=prep.info")
    output = succeed("postprocess", "result/dumpOutput_device0", labels, "result.json")
    assert "top-1 65.00 %, top-5 95.00 %, 20 images" in output
    assert values(tmp_path / "result.json") == original_result(tmp_path / "result" / "dumpOutput_device0", labels)
    assert_classes_are_the_oracles(tmp_path / "result" / "dumpOutput_device0", "imagenet_val20")


@needs_real_data
def test_real_photos_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "imagenet_val650_227"
    output = succeed(
        *("all", "--model", DATA / "models" / "mobileone_s0.onnx", "--images", DATA / name, "--dumps", "--exact"),
        *("--labels", DATA / "labels" / f"{name}.txt", "--batch-size", 16),
    )
    assert "top-1 80.92 %, top-5 95.69 %, 650 images" in output
    assert_classes_are_the_oracles(tmp_path / "result" / "dumpOutput_device0", name)


def assert_classes_are_the_oracles(dumps: Path, name: str) -> None:
    with (DATA / "reference_predictions_mobileone_s0.csv").open(encoding="utf-8", newline="") as file:
        oracle = {Path(row["image"]).stem: int(row["top1"]) for row in csv.DictReader(file)}
    stems = {file.stem for file in (DATA / name).iterdir()}
    assert original_predictions(dumps) == {stem: oracle[stem] for stem in stems}
