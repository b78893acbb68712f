from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_convert.architecture import VARIANTS
from repserve_convert.errors import ConversionError
from repserve_convert.random_weights import random_state
from repserve_convert.weights import load_pth
from support.train_networks import CLASSES, network_with_random_statistics, torch_logits

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.convert


def test_the_networks_of_the_tests_are_alive() -> None:
    """Scores that do not depend on the image could not tell a right conversion from a wrong one."""
    images = np.random.default_rng(2).normal(size=(2, 3, 224, 224)).astype(np.float32)
    first, second = torch_logits(network_with_random_statistics(VARIANTS["digits"], seed=1), images)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("deployed", [False, True], ids=["trained", "deployed"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_module_has_the_names_and_shapes_of_the_architecture(name: str, deployed: bool) -> None:
    from repserve_convert.train_network import RepVGG

    variant = VARIANTS[name]
    with torch.device("meta"):
        network = RepVGG(variant, CLASSES, deployed=deployed)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items() if value.ndim}
    assert shapes == (variant.deployed_shapes if deployed else variant.train_time_shapes)(CLASSES)


def test_the_module_groups_the_blocks_of_the_architecture() -> None:
    from repserve_convert.train_network import RepVGG

    with torch.device("meta"):
        network = RepVGG(VARIANTS["B1g4"], CLASSES)
    groups = [module.groups for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert groups == [block.groups for block in VARIANTS["B1g4"].blocks for _ in range(2)]


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


def test_a_flipped_bit_is_noticed_and_its_key_named(tmp_path: Path) -> None:
    """torch.load reads such a file without a word."""
    source = tmp_path / "flipped.pth"
    state = network_with_random_statistics(VARIANTS["digits"], seed=0).state_dict()
    torch.save(state, source)
    content = bytearray(source.read_bytes())
    content[content.index(state["stage3.1.rbr_1x1.conv.weight"].numpy().tobytes()) + 7] ^= 1
    source.write_bytes(content)
    with pytest.raises(ConversionError, match=r"flipped\.pth is damaged: key 'stage3\.1\.rbr_1x1\.conv\.weight'"):
        load_pth(source)


def test_tensors_that_share_their_memory_fit_the_checksums(tmp_path: Path) -> None:
    source = tmp_path / "shared.pth"
    whole = torch.arange(10.0)
    torch.save({"whole": whole, "part": whole[2:5], "turned": whole.reshape(2, 5).t(), "none": torch.empty(0)}, source)
    assert [array.tolist() for array in load_pth(source).values()][1:3] == [
        [2, 3, 4],
        [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]],
    ]


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    source = tmp_path / "unsummed.pth"
    with torch.utils.serialization.config.patch({"save.compute_crc32": False}):
        torch.save({"a": torch.ones(3)}, source)
    assert load_pth(source)["a"].tolist() == [1, 1, 1]


def test_a_damaged_file_of_the_older_format_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Reading it ends in an AssertionError of torch's: the name of an array's storage is damaged."""
    source = tmp_path / "old.pth"
    torch.save({"a": torch.ones(3)}, source, _use_new_zipfile_serialization=False)
    content = source.read_bytes()
    storage = re.findall(rb"\d{8,}", content)[-1]
    source.write_bytes(content.replace(storage, storage[::-1], 1))
    with pytest.raises(ConversionError, match=r"old\.pth cannot be read as a torch file"):
        load_pth(source)


@pytest.mark.parametrize(
    "tensor", [torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64)], ids=["sparse", "complex"]
)
def test_a_tensor_that_is_no_plain_array_is_named(tmp_path: Path, tensor: object) -> None:
    source = tmp_path / "other.pth"
    torch.save({"a": torch.ones(1), "b": tensor}, source)
    with pytest.raises(ConversionError, match=r"other\.pth: key 'b' is sparse, quantised or complex"):
        load_pth(source)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="does not exist"):
        load_pth(tmp_path / "none.pth")
