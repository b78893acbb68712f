"""What goes wrong takes one line, and what ends early leaves no half files and no processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import psutil
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from repserve_bench.offline.cli import offline
from support.faulty_runtimes import FAIL, HANG, LOSE_DEVICE, NOT_A_NUMBER
from support.harness import DIGITS, ROOT, digit_files, wait_until

MODEL = DIGITS / "1" / "model.onnx"
LABELS = DIGITS / "validation" / "val_label.txt"
TENSOR_BYTES = 602_112
WAIT = 30.0


def run(*arguments: object) -> Result:
    return CliRunner().invoke(offline, [str(argument) for argument in arguments])


def fail(*arguments: object) -> str:
    """Runs a command that is to fail as expected errors do: status 1, one line."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Command:
    """``repserve bench offline`` in a process of its own, at the head of a process group as in a terminal."""

    def __init__(self, *arguments: object) -> None:
        # A job that a script starts in the background inherits a SIGINT that is ignored; a terminal's does not.
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from repserve_bench.offline.cli import offline; offline()"
        )
        self._command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.poll()
        with contextlib.suppress(ProcessLookupError):  # its children may live on without it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=WAIT)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def decoders(self) -> list[psutil.Process]:
        return [child for child in self.children() if child.name() == "repserve-decode"]

    def press_ctrl_c(self) -> str:
        """Interrupts the whole group, as a terminal does; what was printed."""
        children = self.children()
        os.killpg(self.process.pid, signal.SIGINT)
        output, _ = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == 130, output
        assert "Traceback" not in output
        assert not psutil.wait_procs(children, timeout=WAIT)[1], "processes are left"
        return output


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    """More large pictures than are decoded before a test has looked at them."""
    folder = tmp_path / "val"
    folder.mkdir()
    Image.effect_noise((1500, 1200), 60).convert("RGB").save(folder / "0.jpg")
    for number in range(1, 400):
        (folder / f"{number}.jpg").hardlink_to(folder / "0.jpg")
    return folder


def tensors(folder: Path) -> list[Path]:
    return list(folder.glob("*.bin"))


def assert_only_whole_tensors(folder: Path) -> None:
    files = list(folder.iterdir())
    assert files
    assert {file.suffix for file in files} == {".bin"}
    assert {file.stat().st_size for file in files} == {TENSOR_BYTES}
    assert len(files) < 400, "the command was to be interrupted before it was done"


def test_ctrl_c_leaves_whole_tensors_and_no_processes(many_images: Path, tmp_path: Path) -> None:
    with Command("preprocess", "repvgg", many_images, "prep", "--processes", 2) as command:
        wait_until(lambda: bool(tensors(tmp_path / "prep")), "the first tensor", WAIT)
        output = command.press_ctrl_c()
    assert "interrupted" in output
    assert_only_whole_tensors(tmp_path / "prep")


def test_decoding_processes_die_with_their_parent(many_images: Path, tmp_path: Path) -> None:
    with Command("preprocess", "repvgg", many_images, "prep", "--processes", 2) as command:
        wait_until(lambda: bool(tensors(tmp_path / "prep")), "the first tensor", WAIT)
        children = command.children()
        command.process.kill()
        assert not psutil.wait_procs(children, timeout=WAIT)[1]


def test_a_decoding_process_that_dies_is_an_error_in_one_line(many_images: Path, tmp_path: Path) -> None:
    with Command("preprocess", "repvgg", many_images, "prep", "--processes", 2) as command:
        wait_until(lambda: len(command.decoders()) == 2, "both decoding processes", WAIT)
        wait_until(lambda: bool(tensors(tmp_path / "prep")), "the first tensor", WAIT)
        decoders = command.decoders()
        decoders[0].kill()
        output, _ = command.process.communicate(timeout=WAIT)
        assert command.process.returncode == 1, output
        assert "Error: a decoding process died" in output
        assert "Traceback" not in output
        assert not psutil.wait_procs(decoders, timeout=WAIT)[1]


def test_two_images_of_one_stem_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in ("a.jpg", "a.png", "b.jpg"):
        shutil.copy(digit_files()[0], tmp_path / "val" / name)
    assert "val/a.jpg and val/a.png have the same name" in fail("preprocess", "repvgg", "val", "prep")
    assert not (tmp_path / "prep").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("preprocess", "resnet50", "val", "prep"), "unknown model 'resnet50'; expected repvgg"),
        (("preprocess", "repvgg", "empty", "prep"), "no images in empty"),
        (("info", "bin", "empty", "x.info", 224, 224), "no files in empty end in .bin"),
        (("postprocess", "empty", LABELS, "result.json"), "empty is empty; expected a dump for each image"),
        (("postprocess", "empty", LABELS, "empty"), "empty is a folder; expected the name of a file"),
        (("parse", "val/a.jpg", "310P"), "which gives the batch size"),
        (("parse", "bad.json", "310P"), "bad.json is not valid JSON"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(tmp_path: Path, arguments: tuple[object, ...], problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "val").mkdir()
    (tmp_path / "bad.json").write_text("{")
    shutil.copy(digit_files()[0], tmp_path / "val" / "a.jpg")
    assert problem in fail(*arguments)


def test_tensors_need_their_width_and_height(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    result = run("info", "bin", ".", "x.info")
    assert result.exit_code == 2
    assert "WIDTH and HEIGHT are needed for type bin" in result.output


@pytest.fixture
def pixel_model(tmp_path: Path) -> Path:
    """A folder for a model that takes pixels: the runtime that the tests give does not look into the file."""
    (tmp_path / "pixels").mkdir()
    (tmp_path / "pixels" / "model.onnx").write_bytes(b"")
    for shade in (1, 6, 7):
        picture(tmp_path / "val", shade)
    (tmp_path / "val_label.txt").write_text("shade_001.png 1\nshade_006.png 2\nshade_007.png 0\n")
    return tmp_path / "pixels" / "model.onnx"


def picture(folder: Path, shade: int) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (256, 256), (shade,) * 3).save(folder / f"shade_{shade:03}.png")


def stand_in(model: Path, command: str = "all") -> tuple[object, ...]:
    name = "--model" if command == "all" else "--om-path"
    return (command, name, model, "--runtime", "support.faulty_runtimes:FaultyRuntime", "--batch-size", 2)


def all_of(model: Path) -> tuple[object, ...]:
    return (*stand_in(model), "--images", "val", "--labels", "val_label.txt")


def test_a_model_that_normalises_itself_takes_images_and_no_float32(pixel_model: Path, tmp_path: Path) -> None:
    assert run("preprocess", "repvgg", "val", "prep", "--processes", 1).exit_code == 0
    assert run("info", "bin", "prep", "prep.info", 224, 224).exit_code == 0
    error = fail(*stand_in(pixel_model, "infer"), "--input-text-path", "prep.info")
    assert "prep/shade_001.bin holds float32, and the model normalises itself" in error
    assert "'repserve bench offline all', or an info file of type jpg" in error
    assert not (tmp_path / "result").exists() or not list((tmp_path / "result").iterdir())
    result = run(*all_of(pixel_model))
    assert result.exit_code == 0, result.output
    assert "top-1 66.67 %, top-4 100.00 %, 3 images" in result.output


@pytest.mark.parametrize(
    ("shade", "problem"),
    [
        (FAIL, "the model failed on a batch of 2 images: [-1][ACL: general failure]"),
        (LOSE_DEVICE, "the device was lost"),
        (NOT_A_NUMBER, f"val/shade_{NOT_A_NUMBER}.png: its scores hold a NaN"),
    ],
)
def test_a_run_that_fails_leaves_no_results(pixel_model: Path, tmp_path: Path, shade: int, problem: str) -> None:
    picture(tmp_path / "val", shade)
    with (tmp_path / "val_label.txt").open("a") as labels:
        labels.write(f"shade_{shade:03}.png 0\n")
    assert problem in fail(*all_of(pixel_model), "--dumps")
    assert list((tmp_path / "result").iterdir()) == []


def test_ctrl_c_leaves_no_results(pixel_model: Path, tmp_path: Path) -> None:
    picture(tmp_path / "val", HANG)
    with (tmp_path / "val_label.txt").open("a") as labels:
        labels.write(f"shade_{HANG:03}.png 0\n")
    with Command(*all_of(pixel_model), "--dumps") as command:
        wait_until(lambda: len(list((tmp_path / "result").rglob("*.txt"))) == 2, "the first batch", WAIT)
        assert not (tmp_path / "result" / "dumpOutput_device0").exists(), "a folder that is there is complete"
        command.press_ctrl_c()
    assert list((tmp_path / "result").iterdir()) == []


def test_an_image_without_a_label_is_named_before_anything_runs(pixel_model: Path, tmp_path: Path) -> None:
    picture(tmp_path / "val", 9)
    assert "val_label.txt has no label for shade_009" in fail(*all_of(pixel_model))
    assert not (tmp_path / "result").exists()


def test_a_folder_that_is_no_dump_folder_is_left_alone(pixel_model: Path, tmp_path: Path) -> None:
    (tmp_path / "result" / "dumpOutput_device0").mkdir(parents=True)
    (tmp_path / "result" / "dumpOutput_device0" / "thesis.txt").write_text("precious")
    perf = tmp_path / "result" / "perf_vision_batchsize_2_device_0.txt"
    perf.write_text("of an earlier run")
    assert "'thesis.txt', which is not a dump; nothing was removed" in fail(*all_of(pixel_model), "--dumps")
    assert perf.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("-useDvpp=True",), "useDvpp=True, decoding on the NPU, is not supported"),
        (("-model_type=nlp",), "model_type=nlp: only vision models are supported"),
        (("-input_width=256",), "input_width=256, and the model takes 224 by 224 pixels, according to the guide"),
        (("-input_height", 192), "input_height=192, and the model takes 224 by 224 pixels"),
        (("--device", "npu:0"), "the device npu:0 runs .om models"),
        (("--device", "gpu"), "device 'gpu' is not known; use cpu, an NPU such as npu:0"),
    ],
)
def test_options_of_the_tool_that_do_not_fit(pixel_model: Path, arguments: tuple[object, ...], problem: str) -> None:
    assert run("info", "jpg", digit_files()[0].parent, "jpg.info").exit_code == 0
    assert problem in fail(*stand_in(pixel_model, "infer"), "-input_text_path=jpg.info", *arguments)


def test_a_chip_is_named_for_an_npu_only(pixel_model: Path) -> None:
    assert "--chip 310P names an NPU, and the device is cpu" in fail(*all_of(pixel_model), "--chip", "310P")


def test_an_om_without_an_npu_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "RepVGG_bs1.om").write_bytes(b"")
    assert run("info", "jpg", digit_files()[0].parent, "jpg.info").exit_code == 0
    error = fail("infer", "-om_path=RepVGG_bs1.om", "-input_text_path=jpg.info")
    assert "not installed" in error
    assert "ais_bench" in error
