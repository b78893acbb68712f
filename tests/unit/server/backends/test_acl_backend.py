"""The NPU backend over the stand-in of the vendor's packages: every kind of .om, every generation, and the rules."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from repserve_server.backends import acl_model
from repserve_server.backends.acl import AclBackend
from repserve_server.backends.acl_errors import error_code
from repserve_server.backends.base import BackendError, BackendOptions
from repserve_server.backends.factory import create_backend
from repserve_server.errors import RepositoryError, RepServeError
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.compiled import CompiledFolder, CompiledModel, write_compiled
from repserve_server.worker.warm_up import measure_costs
from support.acl_harness import loaded, pixels
from support.digits_server import GEARS, NPU_KINDS, compile_digits
from support.doctor_machines import TABLE_310P
from support.harness import DIGITS
from support.standin_models import read_events, standin_loaded, write_om

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GENERATIONS = ("T", "A", "N")
ONNX = DIGITS / "1" / "model.onnx"


def expected_scores(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(ONNX, providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(None, {"actual_input_1": normalise(images, Preprocessing())})[0]
    return scores


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("kind", NPU_KINDS)
def test_every_kind_of_model_gives_the_scores_of_the_onnx(tmp_path: Path, kind: str, generation: str) -> None:
    images = pixels(16)
    expected = expected_scores(images)
    with loaded(tmp_path, compile_digits(kind, tmp_path), generation=generation) as backend:
        aipp = backend.input.dtype == "uint8"
        assert aipp == (kind == "npu aipp")
        assert backend.input.layout == ("NHWC" if aipp else "NCHW")
        assert backend.batch_sizes == (GEARS if kind == "npu gears" else (1, 16))
        assert backend.classes == 10
        batch = images if aipp else normalise(images, Preprocessing())
        # Larger and smaller ones in turn: a gear sticks until the next is set.
        for size in (*backend.batch_sizes, *reversed(backend.batch_sizes)):
            scores = backend.run(np.ascontiguousarray(batch[:size]))
            np.testing.assert_allclose(scores, expected[:size], rtol=1e-3, atol=1e-3)
            assert scores.dtype == np.float32
        assert tuple(measure_costs(backend).sizes) == backend.batch_sizes


@pytest.mark.parametrize("generation", ["A", "N"])
def test_sessions_are_freed_the_last_one_first_and_acl_is_not_shut_down(tmp_path: Path, generation: str) -> None:
    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path), generation=generation) as backend:
        backend.close()
        backend.close()
        freed = [e.details["file"] for e in read_events(tmp_path / "state", "free") if not e.details["again"]]
        assert freed == ["model_bs16.om", "model_bs1.om"]
        assert not read_events(tmp_path / "state", "finalize")


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.astype(np.float64),
        lambda batch: batch.view(np.int32),
        lambda batch: batch.reshape(1, -1),
        lambda batch: batch.reshape(1, 224, 224, 3),
        lambda batch: np.concatenate([batch, batch]),
        lambda batch: batch[:, :, ::2].repeat(2, 2)[:, :, :, ::-1],
        lambda batch: batch[:0],
    ],
    ids=["float64", "int32", "flat", "nhwc", "no-such-size", "not-contiguous", "empty"],
)
def test_a_batch_that_does_not_fit_never_reaches_the_library(tmp_path: Path, change: object) -> None:
    assert callable(change)
    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path)) as backend:
        batch = normalise(pixels(1), Preprocessing())
        with pytest.raises(ValueError, match=r"^model_bs1.om takes float32 .*; got|^cannot run a batch of \d+"):
            backend.run(change(batch))
        assert not read_events(tmp_path / "state", "run")
        backend.run(batch)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_librarys_lists_are_emptied_again_and_again(
    tmp_path: Path, generation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl_model, "RUNS_BETWEEN_RESETS", 5)
    batch = normalise(pixels(1), Preprocessing())
    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path), generation=generation) as backend:
        for _ in range(23):
            backend.run(batch)
        runs = read_events(tmp_path / "state", "run")
        assert max(run.details["executions"] for run in runs) <= 5
        assert max(run.details["copies"] for run in runs) <= 2 * 5
        assert {event.details["list"] for event in read_events(tmp_path / "state", "reset")} >= {"executions"}


def test_everything_is_called_in_the_thread_that_made_the_backend(tmp_path: Path) -> None:
    with loaded(tmp_path, compile_digits("npu gears", tmp_path)) as backend:
        measure_costs(backend)
        backend.close()
        assert len({event.thread for event in read_events(tmp_path / "state")}) == 1


def test_gears_that_were_written_down_are_taken_and_wrong_ones_refused(tmp_path: Path) -> None:
    folder = compile_digits("npu gears", tmp_path)
    options = BackendOptions("npu:0", folder, compiled_sizes=GEARS)
    with standin_loaded():
        assert AclBackend(options).batch_sizes == GEARS
        for wrong in ((1, 3, 16), (1, 2, 4)):
            with pytest.raises(BackendError, match=r"was not compiled for the batch sizes .* its largest is 16"):
                AclBackend(dataclasses.replace(options, compiled_sizes=wrong))


def test_a_static_size_is_preferred_to_the_gear_of_the_same_size(tmp_path: Path) -> None:
    folder = compile_digits("npu gears", tmp_path)
    write_om(folder / "quick_bs1.om", ONNX, batch_sizes=(1,))
    with loaded(tmp_path, folder) as backend:
        assert backend.batch_sizes == GEARS
        backend.run(normalise(pixels(1), Preprocessing()))
        backend.run(normalise(pixels(2), Preprocessing()))
        files = [event.details["file"] for event in read_events(tmp_path / "state", "run")]
        assert files == ["quick_bs1.om", "model_gears.om"]


def test_models_that_max_batch_leaves_nothing_to_do_give_their_memory_back(tmp_path: Path) -> None:
    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path), max_batch_size=1) as backend:
        assert backend.batch_sizes == (1,)
        assert [event.details["file"] for event in read_events(tmp_path / "state", "free")] == ["model_bs16.om"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_first_model_stays_since_others_may_copy_in_its_context(tmp_path: Path, generation: str) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    write_om(folder / "a_bs32.om", ONNX, batch_sizes=(32,))
    images = pixels(16)
    with loaded(tmp_path, folder, generation=generation) as backend:
        assert backend.batch_sizes == (1, 16)
        scores = backend.run(normalise(images, Preprocessing()))
        np.testing.assert_allclose(scores, expected_scores(images), rtol=1e-3, atol=1e-3)


def _refusal(folder: Path, **standin: str) -> str:
    with standin_loaded(**standin), pytest.raises(RepServeError) as caught:
        AclBackend(BackendOptions("npu:0", folder))
    return caught.value.message


def test_what_keeps_a_model_from_being_loaded_is_said_with_what_to_do(tmp_path: Path) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    expected = {
        "no-driver": ("libascendcl.so", "install CANN", "set_env.sh"),
        "busy": ("[507033]", "busy", "npu-smi info"),
        "wrong-soc": ("[1]", "compiled for another chip", "--soc-version"),
        "load:always": ("[1]", "model_bs1.om", "damaged"),
    }
    for faults, words in expected.items():
        message = _refusal(folder, faults=faults)
        assert all(word in message for word in words), message
    assert "there is no such device" in _refusal(folder, devices="0")
    (folder / "model_bs16.om").write_bytes(b"not a model")
    assert "model_bs16.om" in _refusal(folder)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_links_are_followed_for_the_generation_that_takes_none(tmp_path: Path, generation: str) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    (folder / "model_bs1.om").rename(tmp_path / "elsewhere.om")
    (folder / "model_bs1.om").symlink_to(tmp_path / "elsewhere.om")
    with loaded(tmp_path, folder, generation=generation) as backend:
        assert backend.batch_sizes == (1, 16)


def test_a_file_that_the_newest_generation_refuses_because_others_may_write_it_is_called_so(tmp_path: Path) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    (folder / "model_bs1.om").chmod(0o664)
    assert "chmod go-w" in _refusal(folder, generation="N")


def test_a_number_in_a_path_is_no_error_code() -> None:
    assert error_code(RuntimeError("[107001][Error code unknown] ")) == 107001
    assert error_code(RuntimeError("the path models[1]/m.om is illegal")) is None


@pytest.mark.parametrize("package", ["aclruntime", "ais_bench"])
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)

    def import_module(name: str) -> object:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return object()

    monkeypatch.setattr("importlib.import_module", import_module)
    with pytest.raises(BackendError, match=rf"^{package}.* is not installed[:;] .*ais_bench"):
        AclBackend(BackendOptions("npu:0", folder))


def test_models_of_one_version_must_fit_together(tmp_path: Path) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    write_om(folder / "model_bs4.om", ONNX, batch_sizes=(4,), aipp=Preprocessing())
    assert "must differ in nothing but their batch sizes" in _refusal(folder)
    write_om(folder / "model_bs4.om", ONNX, batch_sizes=(16,))
    assert "are both compiled for batch size 16" in _refusal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": "npu:x"}, "NPUs are npu:0, npu:1"),
        ({"precision": "f32"}, "leave precision at auto"),
        ({"max_batch_size": 0}, "raise max_batch_size"),
    ],
)
def test_options_that_an_npu_cannot_follow_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    options = dataclasses.replace(BackendOptions("npu:0", folder), **changes)  # type: ignore[arg-type]
    with standin_loaded(), pytest.raises(RepServeError, match=words):
        create_backend(options)


def test_a_folder_without_compiled_models_names_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"found: model.onnx\).*repserve convert onnx2om"):
        create_backend(BackendOptions("npu:0", DIGITS / "1"))
    with pytest.raises(RepositoryError, match="nothing"):
        create_backend(BackendOptions("npu:0", tmp_path))


def _compiled(**changes: object) -> CompiledFolder:
    model = CompiledModel(file="model_bs1.om", batch_sizes=(1,), aipp=True, sha256="0" * 64)
    folder = CompiledFolder(
        soc_version="Ascend310P3",
        precision="fp16",
        source="model.onnx",
        source_sha256="0" * 64,
        preprocessing=Preprocessing(),
        models=(model,),
    )
    return folder.model_copy(update=changes)


def test_what_was_compiled_in_is_compared_with_model_toml(tmp_path: Path) -> None:
    folder = compile_digits("npu aipp", tmp_path)
    write_compiled(folder, _compiled())
    with loaded(tmp_path, folder) as backend:
        assert backend.precision == "fp16"
    write_compiled(folder, _compiled(preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5))))
    assert "compiled to normalise with mean [0.5, 0.5, 0.5]" in _refusal(folder)
    (folder / "compiled.json").write_text("{}")
    assert "compiled.json: key 'soc_version'" in _refusal(folder)


def test_a_model_for_another_chip_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compile_digits("npu bs1 bs16", tmp_path)
    write_compiled(folder, _compiled(soc_version="Ascend310", preprocessing=None))
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "npu-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE_310P}END\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    message = _refusal(folder)
    assert "compiled for Ascend310, and this machine has Ascend310P3" in message
    assert "--soc-version Ascend310P3" in message
