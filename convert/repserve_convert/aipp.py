"""AIPP, the chip's own preprocessing: an .om compiled with it takes uint8 pixels and normalises them by itself."""

from __future__ import annotations

from repserve_convert.errors import ConversionError
from repserve_server.imaging.preprocessing import Preprocessing

AIPP_NAME = "aipp.cfg"
GREY_LEVELS = 255
_DIGITS = 15
"""Significant digits: more than a float32 has, and few enough to hide the binary error of 0.406 times 255."""


def aipp_text(preprocessing: Preprocessing) -> str:
    """Write the file for ``--insert_op_conf`` of atc: RGB images of the model's size, normalised.

    AIPP computes (pixel - min_chn) * var_reci_chn, the model wants (pixel / 255 - mean) / std. So min_chn is 255 * mean
    and var_reci_chn 1 / (255 * std). The fractional means are in min_chn because mean_chn takes whole numbers only.

    Args:
        preprocessing: of the model; its crop is the size of the images.

    Returns:
        The text, in protobuf's text format.

    Raises:
        ConversionError: a mean is outside of 0 to 1; min_chn takes 0 to 255.
    """
    if not all(0 <= mean <= 1 for mean in preprocessing.mean):
        raise ConversionError(
            f"AIPP takes means of 0 to 1, and key 'preprocessing.mean' of model.toml is {list(preprocessing.mean)}: "
            "correct it, or compile without --aipp"
        )
    lines = [
        "aipp_mode: static",
        "related_input_rank: 0",
        "input_format: RGB888_U8",
        f"src_image_size_w: {preprocessing.crop}",
        f"src_image_size_h: {preprocessing.crop}",
        "crop: false",
        "csc_switch: false",
        "rbuv_swap_switch: false",
        *(f"min_chn_{i}: {GREY_LEVELS * mean:.{_DIGITS}g}" for i, mean in enumerate(preprocessing.mean)),
        *(f"var_reci_chn_{i}: {1 / (GREY_LEVELS * std):.{_DIGITS}g}" for i, std in enumerate(preprocessing.std)),
    ]
    return "aipp_op {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
