from __future__ import annotations

import math

import pytest

from repserve_convert.architecture import IMAGE_SIZE, VARIANTS, Block, Variant

# Tables 4 and 5 of the RepVGG paper, which are table.PNG in the authors' repository: millions of deployed parameters
# (cut off after two places), billions of multiply-accumulates (rounded to one).
PUBLISHED = {
    "A0": (8.30, 1.4),
    "A1": (12.78, 2.4),
    "A2": (25.49, 5.1),
    "B0": (14.33, 3.1),
    "B1g4": (36.12, 7.3),
    "B1g2": (41.36, 8.8),
    "B1": (51.82, 11.8),
    "B2g4": (55.77, 11.3),
    "B2": (80.31, 18.4),
    "B3g4": (75.62, 16.1),
    "B3": (110.96, 26.2),
}
# timm's results/results-imagenet.csv: millions of trained parameters.
TRAINED = {
    "A0": 9.11,
    "A1": 14.09,
    "A2": 28.21,
    "B0": 15.82,
    "B1": 57.42,
    "B1g4": 39.97,
    "B2": 89.02,
    "B2g4": 61.76,
    "B3": 123.09,
    "B3g4": 83.83,
}


def deployed_parameters(variant: Variant) -> int:
    return sum(math.prod(shape) for shape in variant.deployed_shapes(1000).values())


def multiply_accumulates(variant: Variant, classes: int) -> int:
    """Of one image after re-parameterisation."""
    total, size = variant.features * classes, IMAGE_SIZE
    for block in variant.blocks:
        size = (size + block.stride - 1) // block.stride
        total += math.prod(block.kernel_shape(3)) * size * size
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_work_are_the_published_ones(name: str) -> None:
    parameters, work = PUBLISHED[name]
    variant = VARIANTS[name]
    assert int(deployed_parameters(variant) / 1e4) / 100 == parameters
    assert round(multiply_accumulates(variant, 1000) / 1e9, 1) == work


@pytest.mark.parametrize("name", TRAINED)
def test_trained_parameters_are_those_that_timm_counts(name: str) -> None:
    shapes = VARIANTS[name].train_time_shapes(1000)
    trained = sum(math.prod(shape) for key, shape in shapes.items() if ".running_" not in key)
    assert round(trained / 1e6, 2) == TRAINED[name]


@pytest.mark.parametrize("name", ["B1", "B2", "B3"])
def test_grouping_in_two_and_in_four_save_in_proportion(name: str) -> None:
    """B2g2 and B3g2 are in no table: a grouped block keeps 1/groups of its weights, so g2 saves 2/3 of what g4 does."""
    whole, halves, quarters = (deployed_parameters(VARIANTS[f"{name}{suffix}"]) for suffix in ("", "g2", "g4"))
    assert 3 * (whole - halves) == 2 * (whole - quarters) > 0


def test_every_second_block_after_the_stem_is_grouped() -> None:
    grouped = [block.name for block in VARIANTS["B1g4"].blocks if block.groups == 4]
    assert grouped[:5] == ["stage1.1", "stage1.3", "stage2.1", "stage2.3", "stage2.5"]
    assert grouped[5:] == [f"stage3.{index}" for index in range(1, 16, 2)]
    assert {block.groups for block in VARIANTS["B1g4"].blocks} == {1, 4}
    assert {block.groups for block in VARIANTS["B1"].blocks} == {1}


def test_grouped_kernels_have_the_channels_of_one_group() -> None:
    shapes = VARIANTS["B2g2"].train_time_shapes(1000)
    assert shapes["stage1.1.rbr_dense.conv.weight"] == (160, 80, 3, 3)
    assert shapes["stage1.1.rbr_1x1.conv.weight"] == (160, 80, 1, 1)
    assert VARIANTS["B2g2"].deployed_shapes(1000)["stage1.1.rbr_reparam.weight"] == (160, 80, 3, 3)
    assert shapes["stage1.2.rbr_dense.conv.weight"] == (160, 160, 3, 3)


def test_a0_is_laid_out_as_in_the_paper() -> None:
    blocks = VARIANTS["A0"].blocks
    assert [block.name for block in blocks[:4]] == ["stage0", "stage1.0", "stage1.1", "stage2.0"]
    assert blocks[0] == Block("stage0", 3, 48, 2)
    assert blocks[-1] == Block("stage4.0", 192, 1280, 2)
    assert len(blocks) == 1 + 2 + 4 + 14 + 1
    assert [block.name for block in blocks if block.stride == 2] == [
        "stage0",
        "stage1.0",
        "stage2.0",
        "stage3.0",
        "stage4.0",
    ]
    assert sum(block.has_identity for block in blocks) == 1 + 3 + 13


def test_the_stem_never_has_more_than_64_channels() -> None:
    assert VARIANTS["B3"].blocks[0].out_channels == 64
    assert VARIANTS["digits"].blocks[0].out_channels == 8


def test_train_time_arrays_have_the_names_of_the_reference() -> None:
    shapes = VARIANTS["A0"].train_time_shapes(1000)
    assert shapes["stage0.rbr_dense.conv.weight"] == (48, 3, 3, 3)
    assert shapes["stage0.rbr_1x1.conv.weight"] == (48, 3, 1, 1)
    assert shapes["stage1.1.rbr_identity.running_var"] == (48,)
    assert shapes["stage4.0.rbr_dense.bn.running_mean"] == (1280,)
    assert shapes["linear.weight"] == (1000, 1280)
    assert "stage1.0.rbr_identity.weight" not in shapes


def test_deployed_arrays_have_the_names_of_the_reference() -> None:
    shapes = VARIANTS["A0"].deployed_shapes(1000)
    assert shapes["stage0.rbr_reparam.weight"] == (48, 3, 3, 3)
    assert shapes["stage1.1.rbr_reparam.bias"] == (48,)
    assert list(shapes)[-2:] == ["linear.weight", "linear.bias"]
    assert len(shapes) == 2 * 22 + 2


def test_digits_network_is_small() -> None:
    assert multiply_accumulates(VARIANTS["digits"], 10) < 40e6
