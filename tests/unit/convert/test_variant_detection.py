"""Variants detected by shapes alone: the arrays are views of a single zero, so that B3 costs nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_convert.architecture import VARIANTS, Variant
from repserve_convert.checkpoint import Checkpoint
from repserve_convert.detection import choose_variant
from repserve_convert.errors import ConversionError
from repserve_convert.names import to_timm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_convert.architecture import Shape

names = st.sampled_from(sorted(VARIANTS))


def zeros(shapes: dict[str, Shape]) -> dict[str, NDArray[np.float32]]:
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def file_of(variant: Variant, classes: int = 1000, *, deployed: bool = False, timm: bool = False) -> Checkpoint:
    """What a file of the variant gives."""
    state = zeros(variant.deployed_shapes(classes) if deployed else variant.train_time_shapes(classes))
    if timm:
        state = {to_timm(name): array for name, array in state.items()}
    return Checkpoint.recognise(state)


@pytest.mark.parametrize("timm", [False, True], ids=["reference", "timm"])
@pytest.mark.parametrize("deployed", [False, True], ids=["trained", "deployed"])
@pytest.mark.parametrize("classes", [1, 1000])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_detected_by_its_shapes(name: str, classes: int, deployed: bool, timm: bool) -> None:
    checkpoint = file_of(VARIANTS[name], classes, deployed=deployed, timm=timm)
    assert checkpoint.deployed == deployed
    assert choose_variant(checkpoint, None) is VARIANTS[name]


def test_a_network_within_a_deeper_one_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """B0 has all the arrays of A1, and more; which of the two is tried first does not matter."""
    deeper = VARIANTS["B0"].train_time_shapes(9)
    assert VARIANTS["A1"].train_time_shapes(9).items() <= deeper.items()
    monkeypatch.setattr("repserve_convert.detection.VARIANTS", dict(reversed(VARIANTS.items())))
    assert choose_variant(file_of(VARIANTS["A1"]), None) is VARIANTS["A1"]
    assert choose_variant(file_of(VARIANTS["B0"]), None) is VARIANTS["B0"]


@given(name=names, timm=st.booleans(), data=st.data())
def test_of_a_file_that_lacks_arrays_the_first_is_named(name: str, timm: bool, data: st.DataObject) -> None:
    checkpoint = file_of(VARIANTS[name], timm=timm)
    order = list(checkpoint.state)
    lost = data.draw(st.sets(st.sampled_from(order), min_size=1, max_size=9))
    state = {key: array for key, array in checkpoint.state.items() if key not in lost}
    first = min(lost, key=order.index)
    shown = to_timm(first) if timm else first
    with pytest.raises(ConversionError, match=f"{name}: key '{re.escape(shown)}' is missing"):
        choose_variant(Checkpoint(state, timm=timm), None)


@given(name=names, wanted=names)
def test_a_variant_that_was_named_must_fit(name: str, wanted: str) -> None:
    checkpoint = file_of(VARIANTS[name])
    if name == wanted:
        assert choose_variant(checkpoint, wanted) is VARIANTS[name]
    else:
        with pytest.raises(ConversionError, match=rf"key '\S+' .*RepVGG-{wanted}.*; its shapes are those of {name}$"):
            choose_variant(checkpoint, wanted)


def test_the_second_half_of_a_file_may_be_missing() -> None:
    state = dict(list(file_of(VARIANTS["A1"]).state.items())[:150])
    with pytest.raises(ConversionError, match=r"the nearest RepVGG variant is A1: key 'stage3\.\S+' is miss"):
        choose_variant(Checkpoint(state, timm=False), None)


def test_the_error_on_a_damaged_file_names_no_other_variant() -> None:
    state = dict(file_of(VARIANTS["A0"]).state)
    del state["stage2.1.rbr_1x1.bn.weight"]
    with pytest.raises(ConversionError, match=r"incomplete, damaged, or of another variant$"):
        choose_variant(Checkpoint(state, timm=False), "A0")


def test_a_network_of_other_widths_is_described() -> None:
    other = Variant("other", (2, 4, 14, 1), (0.625, 0.625, 0.625, 2))
    with pytest.raises(
        ConversionError, match=r"none of the RepVGG variants A0, .*B3g4.*: found 1 x 40 .*stage 0, 2 x 40"
    ):
        choose_variant(file_of(other), None)
    with pytest.raises(ConversionError, match=r"4 x 80 channels in stage 2, 14 x 160 channels in stage 3, 1 x 1024"):
        choose_variant(file_of(other, deployed=True), None)


def test_another_kind_of_network_is_shown_by_its_keys() -> None:
    state = zeros({"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 1, 1), "fc.bias": (1000,)})
    with pytest.raises(ConversionError, match=r"no RepVGG block, but keys such as 'conv1\.weight', 'layer1\.0\.conv1"):
        choose_variant(Checkpoint.recognise(state), None)


def test_squeeze_and_excitation_is_not_passed_over() -> None:
    """RepVGG-D2se has such layers, which no variant here has: without them it would give other scores."""
    state = {**file_of(VARIANTS["B2"]).state, **zeros({"stage1.0.se.down.weight": (10, 160, 1, 1)})}
    with pytest.raises(ConversionError, match=r"'stage1\.0\.se\.down\.weight' is not part of RepVGG-B2"):
        choose_variant(Checkpoint(state, timm=False), None)
