from __future__ import annotations

import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from repserve_convert.atc import AtcOptions, Target, atc_arguments, shell_form
from repserve_convert.onnx_input import OnnxInput

GUIDE = AtcOptions(Path("RepVGG.onnx"), OnnxInput("actual_input_1", uint8=False, side=224), 224, "Ascend310P3")


def command(target: Target, options: AtcOptions = GUIDE) -> str:
    return shell_form(atc_arguments(options, target))


def test_a_static_model_is_compiled_by_the_guides_command() -> None:
    assert command(Target((16,))) == (
        "atc --framework=5 --model=RepVGG.onnx --output=model_bs16 --input_format=NCHW "
        '--input_shape="actual_input_1:16,3,224,224" --log=error --soc_version=Ascend310P3'
    )


def test_gears_leave_the_batch_open() -> None:
    assert command(Target((1, 2, 4, 8, 16))) == (
        "atc --framework=5 --model=RepVGG.onnx --output=model_gears --input_format=NCHW "
        '--input_shape="actual_input_1:-1,3,224,224" --dynamic_batch_size="1,2,4,8,16" '
        "--log=error --soc_version=Ascend310P3"
    )


def test_aipp_and_another_precision_are_added() -> None:
    options = AtcOptions(GUIDE.source, GUIDE.image, 224, "Ascend310", "must_keep_origin_dtype", aipp=True)
    assert command(Target((1,)), options) == (
        "atc --framework=5 --model=RepVGG.onnx --output=model_bs1 --input_format=NCHW "
        '--input_shape="actual_input_1:1,3,224,224" --insert_op_conf=aipp.cfg --log=error '
        "--soc_version=Ascend310 --precision_mode=must_keep_origin_dtype"
    )


def test_pixels_keep_their_layout() -> None:
    """With ND, as atc takes no NHWC of ONNX models."""
    options = AtcOptions(GUIDE.source, OnnxInput("image", uint8=True, side=None), 96, "Ascend310P3")
    assert '--input_format=ND --input_shape="image:8,96,96,3"' in command(Target((8,)), options)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.text("ab $'`\"\\;:,"))
def test_a_shell_reads_the_arguments_as_they_were(source: str, name: str) -> None:
    options = AtcOptions(Path(source), OnnxInput(name, uint8=False, side=224), 224, "Ascend310P3")
    arguments = atc_arguments(options, Target((1, 16)))
    assert shlex.split(shell_form(arguments)) == arguments
