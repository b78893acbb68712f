from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_convert.aipp import aipp_text
from repserve_convert.errors import ConversionError
from repserve_server.imaging.preprocessing import Preprocessing

LEVELS = np.arange(256)
GUIDE = """\
aipp_op {
  aipp_mode: static
  related_input_rank: 0
  input_format: RGB888_U8
  src_image_size_w: 224
  src_image_size_h: 224
  crop: false
  csc_switch: false
  rbuv_swap_switch: false
  min_chn_0: 123.675
  min_chn_1: 116.28
  min_chn_2: 103.53
  var_reci_chn_0: 0.0171247538316637
  var_reci_chn_1: 0.0175070028011204
  var_reci_chn_2: 0.0174291938997821
}
"""


def parse(text: str) -> dict[str, str]:
    body = re.fullmatch(r"aipp_op \{\n(.*)\}\n", text, re.DOTALL)
    assert body is not None
    return dict(line.strip().split(": ") for line in body[1].splitlines())


def test_the_guides_preprocessing_is_the_published_file() -> None:
    assert aipp_text(Preprocessing()) == GUIDE


@given(
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.floats(0.01, 2)] * 3),
)
def test_the_chip_computes_the_models_normalisation(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    """In float32, from the text, for all grey levels."""
    keys = parse(aipp_text(Preprocessing(mean=mean, std=std)))
    for channel in range(3):
        low = np.float32(keys[f"min_chn_{channel}"])
        factor = np.float32(keys[f"var_reci_chn_{channel}"])
        computed = (LEVELS.astype(np.float32) - low) * factor
        wanted = (LEVELS / 255 - mean[channel]) / std[channel]
        # Rounding of the mean, of the difference and of the product, each at most half a unit of the largest.
        tolerance = 1.5 * np.finfo(np.float32).eps * 255 * float(factor)
        assert np.abs(computed - wanted).max() <= tolerance


def test_the_size_is_the_models() -> None:
    keys = parse(aipp_text(Preprocessing(resize=320, crop=288)))
    assert (keys["src_image_size_w"], keys["src_image_size_h"]) == ("288", "288")


@pytest.mark.parametrize("mean", [-0.1, 1.5])
def test_means_that_aipp_cannot_take_are_refused(mean: float) -> None:
    with pytest.raises(ConversionError, match=r"'preprocessing\.mean' of model\.toml"):
        aipp_text(Preprocessing(mean=(0.5, mean, 0.5)))
