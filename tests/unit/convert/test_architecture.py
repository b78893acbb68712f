from __future__ import annotations

import pytest

from repserve_convert.architecture import VARIANTS, Block, find_variant
from repserve_convert.errors import ConversionError

# Table 2 of the RepVGG paper: millions of deployed parameters (cut off after two places), billions of
# multiply-accumulates (rounded to one).
PUBLISHED = {
    "A0": (8.30, 1.4),
    "A1": (12.78, 2.4),
    "A2": (25.49, 5.1),
    "B0": (14.33, 3.1),
    "B1": (51.82, 11.8),
    "B2": (80.31, 18.4),
    "B3": (110.96, 26.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_work_are_the_published_ones(name: str) -> None:
    parameters, work = PUBLISHED[name]
    variant = VARIANTS[name]
    assert int(variant.deployed_parameters(1000) / 1e4) / 100 == parameters
    assert round(variant.multiply_accumulates(1000) / 1e9, 1) == work


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


def test_digits_network_is_small() -> None:
    assert VARIANTS["digits"].multiply_accumulates(10) < 40e6


def test_variants_are_found_in_any_case_and_unknown_ones_listed() -> None:
    assert find_variant("b0") is VARIANTS["B0"]
    with pytest.raises(ConversionError, match=r"'C7'.*A0, A1"):
        find_variant("C7")
