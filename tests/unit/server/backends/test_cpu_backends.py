"""OpenVINO and ONNX Runtime on a small model: they agree, and refuse what does not fit by name."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from repserve_server.backends.base import BackendError, BackendOptions, InputKind, Precision, power_sizes
from repserve_server.backends.factory import create_backend
from repserve_server.errors import RepositoryError
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.worker.warm_up import measure_costs
from support.fakes import FakeBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP, CLASSES = 8, 5
SMALL = Preprocessing(resize=10, crop=CROP)
CPU_RUNTIMES = ["openvino", "onnxruntime"]


def save_model(folder: Path, crop: int = CROP, classes: int = CLASSES) -> NDArray[np.float32]:
    """Flatten and one matrix product, so that the expected scores are easy to say; returns the matrix."""
    weight = (np.random.default_rng(3).normal(size=(3 * crop * crop, classes)) / 10).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["actual_input_1"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["output1"]),
        ],
        "linear",
        [helper.make_tensor_value_info("actual_input_1", TensorProto.FLOAT, ["batch", 3, crop, crop])],
        [helper.make_tensor_value_info("output1", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, folder / "model.onnx")
    return weight


def options(folder: Path, runtime: str = "auto", precision: Precision = "f32", device: str = "cpu") -> BackendOptions:
    return BackendOptions(device, folder, runtime, precision, preprocessing=SMALL)


def save_pixel_model(folder: Path) -> NDArray[np.float32]:
    """The same for a model that takes uint8 pixels [batch, crop, crop, 3]; returns the matrix."""
    weight = (np.random.default_rng(5).normal(size=(3 * CROP * CROP, CLASSES)) / 1000).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["actual_input_1"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["output1"]),
        ],
        "linear",
        [helper.make_tensor_value_info("actual_input_1", TensorProto.UINT8, ["batch", CROP, CROP, 3])],
        [helper.make_tensor_value_info("output1", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save_model(model, folder / "model.onnx")
    return weight


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (count, CROP, CROP, 3), np.uint8)


def test_both_runtimes_agree_with_numpy_for_every_batch_size(tmp_path: Path) -> None:
    weight = save_model(tmp_path)
    backends = [create_backend(options(tmp_path, runtime)) for runtime in CPU_RUNTIMES]
    for count in (1, 3, 16):
        batch = images(count)
        expected = normalise(batch, SMALL).reshape(count, -1) @ weight
        for backend in backends:
            scores = backend.run(batch)
            assert scores.shape == (count, CLASSES)
            assert scores.dtype == np.float32
            np.testing.assert_allclose(scores, expected, atol=1e-4)
    for backend in backends:
        backend.close()


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_backend_says_what_it_takes(tmp_path: Path, runtime: str) -> None:
    save_model(tmp_path)
    backend = create_backend(options(tmp_path, runtime))
    assert (backend.name, backend.precision, backend.simulated) == (runtime, "f32", False)
    assert (backend.input.name, backend.input.dtype, backend.input.shape) == (
        "actual_input_1",
        "uint8",
        (CROP, CROP, 3),
    )
    assert (backend.classes, backend.batch_sizes, backend.any_size) == (CLASSES, (1, 2, 4, 8, 16), True)
    assert backend.figures() == {}
    assert measure_costs(backend).sizes == tuple(range(1, 17))


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_one_model_file_can_be_given_its_own_input(tmp_path: Path, runtime: str) -> None:
    weight = save_model(tmp_path)
    asked = dataclasses.replace(options(tmp_path / "model.onnx", runtime), input="tensor")
    backend = create_backend(asked)
    assert (backend.input.dtype, backend.input.shape, backend.input.layout) == ("float32", (3, CROP, CROP), "NCHW")
    batch = normalise(images(3), SMALL)
    np.testing.assert_allclose(backend.run(batch), batch.reshape(3, -1) @ weight, atol=1e-4)


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
@pytest.mark.parametrize("asked", ["pixels", "tensor"])
def test_a_model_that_normalises_itself_gets_the_pixels(tmp_path: Path, runtime: str, asked: InputKind) -> None:
    weight = save_pixel_model(tmp_path)
    backend = create_backend(dataclasses.replace(options(tmp_path, runtime), input=asked))
    assert (backend.input.dtype, backend.input.shape) == ("uint8", (CROP, CROP, 3))
    batch = images(3)
    expected = batch.reshape(3, -1).astype(np.float32) @ weight
    np.testing.assert_allclose(backend.run(batch), expected, atol=1e-3)


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_model_of_another_input_size_is_told_both_sizes(tmp_path: Path, runtime: str) -> None:
    save_model(tmp_path, crop=12)
    with pytest.raises(BackendError) as caught:
        create_backend(options(tmp_path, runtime))
    text = str(caught.value).replace(" ", "")
    assert "12,12]" in text
    assert "3,8,8]" in text
    assert "set crop in model.toml" in str(caught.value)


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BackendError, match=r"model\.onnx"):
        create_backend(options(tmp_path, runtime))


def test_a_folder_without_an_onnx_model_lists_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "model_bs1.om").write_bytes(b"")
    with pytest.raises(RepositoryError, match=r"holds no model\.onnx \(found: model_bs1\.om\)"):
        create_backend(options(tmp_path))


def test_the_default_runtime_is_openvino(tmp_path: Path) -> None:
    save_model(tmp_path)
    assert create_backend(options(tmp_path)).name == "openvino"


def test_onnx_runtime_refuses_bfloat16(tmp_path: Path) -> None:
    save_model(tmp_path)
    with pytest.raises(BackendError, match="precision = bf16, but ONNX Runtime runs float32"):
        create_backend(options(tmp_path, "onnxruntime", "bf16"))


@pytest.mark.parametrize("device", ["cuda:0", "gpu", ""])
def test_an_unknown_device_is_told_which_there_are(tmp_path: Path, device: str) -> None:
    with pytest.raises(
        BackendError, match=f"device '{device}' is not known; use cpu, an NPU such as npu:0, or sim:310p"
    ):
        create_backend(options(tmp_path, device=device))


def test_an_unknown_runtime_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="runtime 'tflite' is not known; use one of auto, openvino, onnxruntime"):
        create_backend(options(tmp_path, "tflite"))


@pytest.mark.parametrize(("runtime", "extras"), [("openvino", "server"), ("onnxruntime", "server,onnxruntime")])
def test_a_missing_runtime_names_its_extra(
    tmp_path: Path, runtime: str, extras: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path)
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(BackendError, match=rf"^{runtime} is not installed: pip install 'repserve\[{extras}\]'$"):
        create_backend(options(tmp_path, runtime))


@pytest.mark.parametrize("runtime", ["absent.module:Backend", "math:Backend"])
def test_an_own_backend_that_cannot_be_imported_is_named(tmp_path: Path, runtime: str) -> None:
    with pytest.raises(BackendError, match=f"runtime '{runtime}' cannot be imported"):
        create_backend(options(tmp_path, runtime))


def test_warm_up_refuses_scores_of_a_wrong_shape() -> None:
    backend = FakeBackend()
    backend.classes = 7
    with pytest.raises(BackendError, match=r"a batch of 1 gave scores \(1, 4\), expected \(1, 7\)"):
        measure_costs(backend)


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_sizes_measured_up_to_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert power_sizes(largest) == sizes
