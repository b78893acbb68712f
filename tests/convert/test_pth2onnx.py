"""``repserve convert pth2onnx`` on files that torch wrote, against the torch module in evaluation mode."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.cli import convert
from repserve_convert.errors import ConversionError
from repserve_convert.graph import build_model, save_model
from repserve_convert.names import to_timm
from repserve_convert.reparameterise import State, reparameterise
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from support.train_networks import network_with_random_statistics, torch_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from repserve_convert.train_network import RepVGG

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.convert

NEWEST = onnx.defs.onnx_opset_version()
AGREED = re.compile(r"^(.+) agree: max abs error (\S+) over 4 images$", re.MULTILINE)
# Small stand-ins for the big grouped variants: all kinds of blocks, in groups of both sizes.
SMALL = {
    groups: Variant(f"small{groups}", (2, 2, 3, 1), (1 / 8, 1 / 8, 1 / 8, 1 / 8), groups=groups) for groups in (2, 4)
}


class Pictures(NamedTuple):
    """The same pictures as a model may take them."""

    pixels: NDArray[np.uint8]
    images: NDArray[np.float32]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Two pictures of noise, and one of a single colour: there a wrong border shows."""
    pixels = np.random.default_rng(2).integers(0, 256, (3, 224, 224, 3), np.uint8)
    pixels[2] = 255
    return Pictures(pixels, normalise(pixels, Preprocessing()))


@pytest.fixture(scope="module")
def a0() -> RepVGG:
    return network_with_random_statistics(VARIANTS["A0"], seed=1)


@pytest.fixture(scope="module")
def digits() -> RepVGG:
    return network_with_random_statistics(VARIANTS["digits"], seed=3)


def converted(content: object, folder: Path, *options: str) -> tuple[Path, str]:
    """Save the content as a .pth file, convert it, and check that the command found both to agree."""
    source, target = folder / "in.pth", folder / "out.onnx"
    torch.save(content, source)
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(target), *options])
    assert result.exit_code == 0, result.output
    found = AGREED.search(result.output)
    assert found is not None, result.output
    assert float(found[2]) <= 1e-4
    assert sorted(path.name for path in folder.iterdir()) == ["in.pth", "out.onnx"]
    return target, result.output


def refused(content: object, folder: Path, *options: str) -> str:
    """Save the content as a .pth file, and return the one line with which it is refused; nothing is written."""
    source, target = folder / "in.pth", folder / "out.onnx"
    torch.save(content, source)
    result = CliRunner().invoke(convert, ["pth2onnx", str(source), str(target), *options])
    assert result.exit_code == 1
    assert [path.name for path in folder.iterdir()] == ["in.pth"]
    (line,) = result.output.splitlines()
    return line


def onnx_logits(model: Path, images: NDArray[np.generic]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["output1"], {"actual_input_1": images})[0]
    return result


def assert_agrees(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """To 1e-4, and in scores that depend on the image."""
    assert np.abs(found - expected).max() <= 1e-4
    assert np.abs(expected[0] - expected[2]).max() > 0.05


@pytest.mark.parametrize("opset", [11, 13, 17, NEWEST])
def test_a0_agrees_at_every_opset(a0: RepVGG, opset: int, pictures: Pictures, tmp_path: Path) -> None:
    target, output = converted(a0.state_dict(), tmp_path, "--opset", str(opset))
    assert "RepVGG-A0" in output
    assert output.startswith("train form and deployed outputs agree")
    model = onnx.load(target)
    assert model.opset_import[0].version == opset
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    assert_agrees(onnx_logits(target, pictures.images), torch_logits(a0, pictures.images))


@pytest.mark.parametrize("branches", [False, True], ids=["deployed", "branches"])
def test_a_model_that_takes_pixels_agrees(a0: RepVGG, branches: bool, pictures: Pictures, tmp_path: Path) -> None:
    target, output = converted(a0.state_dict(), tmp_path, "--uint8", *(["--keep-branches"] if branches else []))
    assert "takes uint8 pixels" in output
    assert_agrees(onnx_logits(target, pictures.pixels), torch_logits(a0, pictures.images))


@pytest.mark.parametrize("opset", [11, NEWEST])
def test_the_branches_are_kept_on_demand(a0: RepVGG, opset: int, pictures: Pictures, tmp_path: Path) -> None:
    target, output = converted(a0.state_dict(), tmp_path, "--keep-branches", "--opset", str(opset))
    assert output.startswith("train form and multi-branch model outputs agree")
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("BatchNormalization") == 2 * 22 + 17
    assert_agrees(onnx_logits(target, pictures.images), torch_logits(a0, pictures.images))


def test_a_big_grouped_network_agrees(pictures: Pictures, tmp_path: Path) -> None:
    network = network_with_random_statistics(VARIANTS["B1g4"], seed=1)
    target, output = converted(network.state_dict(), tmp_path)
    assert "RepVGG-B1g4" in output
    assert_agrees(onnx_logits(target, pictures.images), torch_logits(network, pictures.images))


@pytest.mark.parametrize("options", [(), ("--keep-branches",), ("--uint8",)], ids=" ".join)
@pytest.mark.parametrize("groups", SMALL)
def test_grouped_networks_agree_in_every_form(
    groups: int,
    options: tuple[str, ...],
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variant = SMALL[groups]
    monkeypatch.setitem(VARIANTS, variant.name, variant)
    network = network_with_random_statistics(variant, seed=4)
    target, output = converted(network.state_dict(), tmp_path, *options)
    assert f"RepVGG-{variant.name}" in output
    assert_agrees(
        onnx_logits(target, pictures.pixels if "--uint8" in options else pictures.images),
        torch_logits(network, pictures.images),
    )


def deployed_form(network: RepVGG, variant: Variant) -> dict[str, object]:
    """The state dict that the reference implementation saves after ``switch_to_deploy``."""
    weights = reparameterise({name: value.numpy() for name, value in network.state_dict().items()}, variant)
    return {name: torch.from_numpy(array) for name, array in weights.items()}


def in_timm(state: Mapping[str, object]) -> dict[str, object]:
    return {to_timm(name): value for name, value in state.items()}


@pytest.mark.parametrize("rename", [dict, in_timm], ids=["reference", "timm"])
@pytest.mark.parametrize("options", [(), ("--uint8",)], ids=" ".join)
def test_files_in_the_deployed_form_convert(
    digits: RepVGG,
    rename: Callable[[Mapping[str, object]], dict[str, object]],
    options: tuple[str, ...],
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    target, output = converted(rename(deployed_form(digits, VARIANTS["digits"])), tmp_path, *options)
    assert output.startswith("outputs of the file's deployed convolutions (it has no train form) and of the written")
    assert_agrees(
        onnx_logits(target, pictures.pixels if options else pictures.images), torch_logits(digits, pictures.images)
    )


@pytest.mark.parametrize(
    "wrapping",
    [("", None), ("module.", None), ("module.", "state_dict"), ("", "model"), ("", "model_state_dict")],
    ids=str,
)
@pytest.mark.parametrize("rename", [dict, in_timm], ids=["reference", "timm"])
def test_trained_files_convert_whatever_their_names_and_wrapping(
    digits: RepVGG,
    wrapping: tuple[str, str | None],
    rename: Callable[[Mapping[str, object]], dict[str, object]],
    pictures: Pictures,
    tmp_path: Path,
) -> None:
    prefix, wrapper = wrapping
    content = {f"{prefix}{name}": value for name, value in rename(digits.state_dict()).items()}
    target, output = converted({"epoch": 9, wrapper: content} if wrapper else content, tmp_path)
    assert output.startswith("train form and deployed outputs agree")
    assert_agrees(onnx_logits(target, pictures.images), torch_logits(digits, pictures.images))


def test_half_a_file_is_refused_by_its_first_missing_key(a0: RepVGG, tmp_path: Path) -> None:
    state = list(a0.state_dict().items())
    half = dict(state[: len(state) // 2])
    first = next(name for name in VARIANTS["A0"].train_time_shapes(12) if name not in half)
    assert f"the nearest RepVGG variant is A0: key '{first}' is missing" in refused(half, tmp_path)


def test_a_bad_key_is_named_as_the_file_names_it(digits: RepVGG, tmp_path: Path) -> None:
    state = in_timm(digits.state_dict())
    state["stages.1.1.identity.running_var"] = torch.full((16,), -1.0)
    assert "key 'stages.1.1.identity.running_var' holds a negative variance" in refused(state, tmp_path)


def test_another_variant_is_refused_by_its_first_bad_key(a0: RepVGG, tmp_path: Path) -> None:
    line = refused(a0.state_dict(), tmp_path, "--variant", "A1")
    assert "key 'stage0.rbr_dense.conv.weight' has shape (48, 3, 3, 3), RepVGG-A1 has (64, 3, 3, 3)" in line
    assert line.endswith("its shapes are those of A0")


def shifted_kernel(weights: State) -> State:
    """A kernel that looks one pixel further to the right than the network's does."""
    weights["stage2.1.rbr_reparam.weight"] = np.roll(weights["stage2.1.rbr_reparam.weight"], 1, axis=3)
    return weights


def lost_bias(weights: State) -> State:
    weights["stage0.rbr_reparam.bias"][3] = 0
    return weights


@pytest.mark.parametrize("spoil", [shifted_kernel, lost_bias])
def test_a_model_that_does_something_else_is_refused(
    digits: RepVGG,
    spoil: Callable[[State], State],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "repserve_convert.pth2onnx.reparameterise", lambda state, variant: spoil(reparameterise(state, variant))
    )
    line = refused(digits.state_dict(), tmp_path)
    assert "the written model does not agree with the file's network: a logit differs by" in line


def test_normalisation_folded_into_the_first_kernel_is_refused(digits: RepVGG, tmp_path: Path) -> None:
    """It is right but for the border of zeros, and that is enough to be noticed."""
    from repserve_convert.checkpoint import Checkpoint
    from repserve_convert.verification import largest_difference

    variant, guide = VARIANTS["digits"], Preprocessing()
    checkpoint = Checkpoint.recognise({name: value.numpy() for name, value in digits.state_dict().items()})
    weights = reparameterise(checkpoint.state, variant)
    weight, bias = weights["stage0.rbr_reparam.weight"], weights["stage0.rbr_reparam.bias"]
    std, mean = (np.array(values, np.float32)[:, np.newaxis, np.newaxis] for values in (guide.std, guide.mean))
    weights["stage0.rbr_reparam.weight"] = weight / std
    weights["stage0.rbr_reparam.bias"] = bias - (weight / std * mean).sum(axis=(1, 2, 3))
    # With mean 0 and deviation 1 the model scales pixels to 0 ... 1, and leaves the rest to the folded kernel.
    plain = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    save_model(build_model(weights, variant, pixels=plain), tmp_path / "folded.onnx")
    with pytest.raises(ConversionError, match="does not agree with the file's network"):
        largest_difference(checkpoint, variant, tmp_path / "folded.onnx", guide)


def test_scores_that_are_not_finite_are_refused(digits: RepVGG, tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in digits.state_dict().items()}
    for block in ("stage1.0", "stage2.0"):
        state[f"{block}.rbr_dense.bn.weight"] *= 1e30
    assert "gives scores that are not finite" in refused(state, tmp_path)
