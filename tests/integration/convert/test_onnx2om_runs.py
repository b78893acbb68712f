"""``repserve convert onnx2om`` with a stand-in for atc that succeeds: what the repository gets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from repserve_server.backends.acl import AclBackend
from repserve_server.backends.base import BackendOptions
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.compiled import read_compiled
from repserve_server.repository.config import ModelConfig, read_config
from repserve_server.repository.scan import scan_repository
from standin.model_file import read
from support.harness import DIGITS
from support.onnx2om_harness import succeed, write_model
from support.standin_models import standin_loaded


def test_the_folder_is_ready_to_serve(model: Path, folder: Path) -> None:
    lines = succeed(model)
    assert sorted(path.name for path in folder.iterdir()) == ["compiled.json", "model_bs1.om", "model_bs16.om"]
    compiled = read_compiled(folder)
    assert compiled is not None
    assert (compiled.soc_version, compiled.precision, compiled.source) == ("Ascend310P3", "fp16", "means.onnx")
    assert compiled.source_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert compiled.preprocessing is None
    assert [(m.file, m.batch_sizes, m.aipp) for m in compiled.models] == [
        ("model_bs1.om", (1,), False),
        ("model_bs16.om", (16,), False),
    ]
    assert [m.sha256 for m in compiled.models] == [
        hashlib.sha256((folder / m.file).read_bytes()).hexdigest() for m in compiled.models
    ]
    assert compiled.commands[1] == (
        f"atc --framework=5 --model={model} --output=model_bs16 --input_format=NCHW "
        '--input_shape="actual_input_1:16,3,224,224" --log=error --soc_version=Ascend310P3'
    )
    assert read_config(folder.parent) == ModelConfig(description="means, compiled from means.onnx")
    assert [[v.number for v in m.versions] for m in scan_repository(folder.parent.parent)] == [[1]]
    assert lines[-4:] == [
        "wrote repo/means/1: model_bs1.om, model_bs16.om, compiled.json (Ascend310P3)",
        "wrote repo/means/model.toml",
        "to serve it: repserve serve --model-repository repo --model means --device npu:0",
        "to name the classes: put one name per line, in order, into repo/means/labels.txt",
    ]


def test_others_may_read_what_atc_wrote_for_its_user(model: Path, folder: Path) -> None:
    succeed(model)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_gears_are_one_file(model: Path, folder: Path) -> None:
    succeed(model, "--gears", "16,1,4")
    header, _ = read(folder / "model_gears.om")
    assert (header.batch_sizes, header.gears) == ((1, 4, 16), True)
    compiled = read_compiled(folder)
    assert compiled is not None
    assert [(m.file, m.batch_sizes) for m in compiled.models] == [("model_gears.om", (1, 4, 16))]


def test_aipp_gets_the_models_own_values(model: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    text = "[preprocessing]\nmean = [0.2, 0.4, 0.6]\nstd = [0.1, 0.2, 0.5]\n"
    (folder.parent / "model.toml").write_text(text)
    lines = succeed(model, "--aipp", "--batch-sizes", "4")
    header, _ = read(folder / "model_bs4.om")
    assert header.mean == pytest.approx((51, 102, 153))
    assert header.reciprocal == pytest.approx((1 / 25.5, 1 / 51, 1 / 127.5))
    compiled = read_compiled(folder)
    assert compiled is not None
    assert compiled.preprocessing == Preprocessing(mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.5))
    assert compiled.models[0].aipp
    assert (folder.parent / "model.toml").read_text() == text
    assert not any("model.toml" in line for line in lines)


def test_a_model_that_takes_pixels_is_compiled_as_it_is_and_runs(tmp_path: Path, folder: Path) -> None:
    succeed(write_model(tmp_path / "pixels.onnx", uint8=True), "--batch-sizes", "2")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 224, 224, 3), np.uint8)
    with standin_loaded():
        backend = AclBackend(BackendOptions("npu:0", folder))
        assert (backend.input.dtype, backend.input.layout) == ("uint8", "NHWC")
        np.testing.assert_allclose(backend.run(pixels), pixels.mean((1, 2)), rtol=1e-4)
        backend.close()


def test_an_image_size_that_the_model_leaves_open_is_that_of_model_toml(tmp_path: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    (folder.parent / "model.toml").write_text("[preprocessing]\nresize = 96\ncrop = 96\n")
    succeed(write_model(tmp_path / "open.onnx", shape=("n", 3, "height", "width")), "--batch-sizes", "1", "--aipp")
    with standin_loaded():
        backend = AclBackend(BackendOptions("npu:0", folder, preprocessing=Preprocessing(resize=96, crop=96)))
        assert backend.input.shape == (96, 96, 3)
        backend.close()


@pytest.mark.parametrize("options", [(), ("--gears", "1,2,4,8,16"), ("--aipp",)], ids=["static", "gears", "aipp"])
def test_the_servers_backend_runs_what_was_compiled(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The digits model: the same scores as its ONNX, on the stand-in device."""
    source = DIGITS / "1" / "model.onnx"
    succeed(source, *options)
    pixels = np.random.default_rng(3).integers(0, 256, (16, 224, 224, 3), np.uint8)
    preprocessing = Preprocessing()
    images = np.ascontiguousarray(
        ((pixels / 255 - preprocessing.mean) / preprocessing.std).transpose(0, 3, 1, 2), np.float32
    )
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {session.get_inputs()[0].name: images})
    (tmp_path / "state").mkdir()
    with standin_loaded(state=str(tmp_path / "state")):
        backend = AclBackend(BackendOptions(device="npu:0", path=tmp_path / "work" / "repo" / "means" / "1"))
        try:
            assert backend.precision == "fp16"
            assert {1, 16} <= set(backend.batch_sizes)
            batch = pixels if "--aipp" in options else images
            np.testing.assert_allclose(backend.run(batch), expected, atol=1e-4)
            np.testing.assert_allclose(backend.run(batch[:1]), expected[:1], atol=1e-4)
        finally:
            backend.close()


def test_what_an_earlier_run_made_is_replaced_and_what_others_made_is_not(model: Path, folder: Path) -> None:
    succeed(model)
    (folder / "by_hand.om").write_bytes(b"mine")
    lines = succeed(model, "--gears", "1,16")
    names = ["by_hand.om", "compiled.json", "model_gears.om"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert "removed, obsolete: model_bs1.om, model_bs16.om" in lines
    assert "left alone: by_hand.om, not made by this command; the server loads every .om" in lines
    assert (folder / "by_hand.om").read_bytes() == b"mine"


def test_the_note_on_random_weights_follows_the_model(model: Path, folder: Path) -> None:
    note = model.with_name("WEIGHTS.txt")
    note.write_text("RANDOM WEIGHTS\n")
    assert "wrote repo/means/1/WEIGHTS.txt: the weights are random" in succeed(model)
    assert scan_repository(folder.parent.parent)[0].caution == "RANDOM WEIGHTS"
    note.unlink()
    assert "removed repo/means/1/WEIGHTS.txt: it described random weights that were here" in succeed(model)
    assert not (folder / "WEIGHTS.txt").exists()


def test_a_note_on_another_model_stays(model: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("model.onnx", "WEIGHTS.txt"):
        (folder / name).write_text("RANDOM WEIGHTS")
    (line,) = (line for line in succeed(model) if "WEIGHTS.txt" in line)
    assert line.startswith("left alone: repo/means/1/WEIGHTS.txt, which describes another model")
    assert (folder / "WEIGHTS.txt").exists()


def test_a_model_may_be_compiled_where_it_is(folder: Path) -> None:
    model = write_model(folder / "model.onnx")
    (folder / "WEIGHTS.txt").write_text("RANDOM WEIGHTS")
    assert not any("WEIGHTS.txt" in line for line in succeed(model))
    names = ["WEIGHTS.txt", "compiled.json", "model.onnx", "model_bs1.om", "model_bs16.om"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_file_named_after_the_system_gets_its_name(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_ATC_FAULT", "suffixed")
    succeed(model, "--batch-sizes", "1")
    assert sorted(path.name for path in folder.iterdir()) == ["compiled.json", "model_bs1.om"]


def test_the_record_is_json_for_people_too(model: Path, folder: Path) -> None:
    succeed(model)
    text = (folder / "compiled.json").read_text()
    assert json.loads(text)["models"][0]["batch_sizes"] == [1]
    assert text.startswith('{\n  "soc_version": "Ascend310P3",\n')
