"""Names are checked against those that timm itself gives, written down from its byobnet.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_convert.architecture import VARIANTS
from repserve_convert.names import from_timm, to_timm

PAIRS = {
    "stem.conv_kxk.conv.weight": "stage0.rbr_dense.conv.weight",
    "stem.conv_1x1.bn.running_mean": "stage0.rbr_1x1.bn.running_mean",
    "stages.0.0.conv_kxk.bn.running_var": "stage1.0.rbr_dense.bn.running_var",
    "stages.2.13.identity.bias": "stage3.13.rbr_identity.bias",
    "stages.3.0.conv_1x1.conv.weight": "stage4.0.rbr_1x1.conv.weight",
    "stem.reparam_conv.weight": "stage0.rbr_reparam.weight",
    "stages.1.3.reparam_conv.bias": "stage2.3.rbr_reparam.bias",
    "head.fc.weight": "linear.weight",
    "head.fc.bias": "linear.bias",
}


@pytest.mark.parametrize(("timm", "reference"), PAIRS.items())
def test_names_are_translated_both_ways(timm: str, reference: str) -> None:
    assert from_timm(timm) == reference
    assert to_timm(reference) == timm


@pytest.mark.parametrize(
    "name",
    [
        "stages.0.0.attn.fc1.weight",
        "stem.conv1.conv.weight",
        "head.norm.weight",
        "stages.0.conv_kxk.conv.weight",
        "layer1.0.conv1.weight",
        "stage1.0.rbr_dense.conv.weight",
    ],
)
def test_other_names_stay_as_they_are(name: str) -> None:
    assert from_timm(name) == name


@given(name=st.sampled_from(sorted(VARIANTS)), deployed=st.booleans())
def test_every_array_of_every_variant_has_a_timm_name_of_its_own(name: str, deployed: bool) -> None:
    variant = VARIANTS[name]
    names = variant.deployed_shapes(10) if deployed else variant.train_time_shapes(10)
    translated = [to_timm(name) for name in names]
    assert not set(translated) & set(names)
    assert [from_timm(name) for name in translated] == list(names)
