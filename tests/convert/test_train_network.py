from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.cli import convert
from repserve_convert.errors import ConversionError
from repserve_convert.graph import build_model
from repserve_convert.random_weights import random_state
from repserve_convert.reparameterise import reparameterise
from repserve_convert.weights import load_pth

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from repserve_convert.train_network import RepVGG

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.convert

CLASSES = 12


def network_with_random_statistics(variant: Variant, seed: int) -> RepVGG:
    """A train-time network whose batch normalisations are as far from neutral as trained ones are."""
    from repserve_convert.train_network import RepVGG

    torch.manual_seed(seed)
    network = RepVGG(variant, CLASSES)
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.4, 0.9)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def torch_logits(network: RepVGG, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        result: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return result


def onnx_logits(model: bytes | Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"actual_input_1": images})[0]
    return result


@pytest.mark.parametrize("name", ["digits", "A0", "B0"])
def test_deployed_and_trained_network_agree(name: str) -> None:
    variant = VARIANTS[name]
    network = network_with_random_statistics(variant, seed=1)
    images = np.random.default_rng(2).normal(size=(2, 3, 224, 224)).astype(np.float32)
    expected = torch_logits(network, images)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    model = build_model(reparameterise(state, variant), variant)
    difference = np.abs(onnx_logits(model.SerializeToString(), images) - expected).max()
    assert difference <= 1e-4
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("name", VARIANTS)
def test_the_module_has_the_names_and_shapes_of_the_architecture(name: str) -> None:
    from repserve_convert.train_network import RepVGG

    with torch.device("meta"):
        network = RepVGG(VARIANTS[name], CLASSES)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.ndim}
    assert shapes == VARIANTS[name].train_time_shapes(CLASSES)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_pth_files_convert_whatever_their_wrapping(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    variant = VARIANTS["digits"]
    network = network_with_random_statistics(variant, seed=3)
    content = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    source, target = tmp_path / "in.pth", tmp_path / "out.onnx"
    torch.save({wrapper: content, "epoch": 9} if wrapper else content, source)
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(target), "--variant", "digits"])
    assert result.exit_code == 0, result.output
    images = np.random.default_rng(4).normal(size=(2, 3, 224, 224)).astype(np.float32)
    np.testing.assert_allclose(onnx_logits(target, images), torch_logits(network, images), atol=1e-4)


def test_random_weights_load_into_the_module() -> None:
    from repserve_convert.train_network import RepVGG

    variant = VARIANTS["digits"]
    state = {key: torch.from_numpy(value) for key, value in random_state(variant, CLASSES, 0).items()}
    missing, unexpected = RepVGG(variant, CLASSES).load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    source = tmp_path / "half.pth"
    torch.save({"a": torch.tensor([0.5, 2.0], dtype=torch.bfloat16)}, source)
    array = load_pth(source)["a"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [0.5, 2.0])


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "whole.pth"
    torch.save(network_with_random_statistics(VARIANTS["digits"], seed=0), source)
    with pytest.raises(ConversionError, match="holds more than weights"):
        load_pth(source)


@pytest.mark.parametrize("content", [b"", b"not a torch file", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "damaged.pth"
    source.write_bytes(content)
    with pytest.raises(ConversionError, match=r"damaged\.pth"):
        load_pth(source)


def test_half_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.pth", tmp_path / "half.pth"
    torch.save(network_with_random_statistics(VARIANTS["digits"], seed=0).state_dict(), whole)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ConversionError, match=r"half\.pth"):
        load_pth(half)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": "text"}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    source = tmp_path / "other.pth"
    torch.save(content, source)
    with pytest.raises(ConversionError, match="holds no state dict"):
        load_pth(source)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="there is no file"):
        load_pth(tmp_path / "none.pth")
