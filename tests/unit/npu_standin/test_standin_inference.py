"""What the stand-in answers, and which feeds it takes for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from repserve_server.imaging.preprocessing import Preprocessing
from support.harness import DIGITS, digit_files
from support.reference_preprocessing import reference_pixels, reference_tensor
from support.standin_harness import (
    CLASSES,
    GENERAL_FAILURE,
    IMAGE_BYTES,
    INVALID_PARAMETER,
    Compiled,
    host_memory,
    images,
    infer,
    interface,
    native_session,
    runtime,
)
from support.standin_models import read_events, standin_loaded, violations, write_om

if TYPE_CHECKING:
    from pathlib import Path


def test_a_static_model_gives_the_networks_scores(generation: str, compiled: Compiled, tmp_path: Path) -> None:
    scores = infer(interface().InferSession(0, str(compiled.bs4)), generation, images(4))
    np.testing.assert_allclose(scores, compiled.scores(images(4)), rtol=1e-5, atol=1e-6)
    assert scores.flags.owndata
    assert scores.flags.c_contiguous
    assert violations(tmp_path) == []


def test_each_gear_gives_as_many_scores_as_it_has_images(generation: str, compiled: Compiled, tmp_path: Path) -> None:
    session = interface().InferSession(0, str(compiled.gears))
    for size in (4, 1, 2, 4):
        scores = infer(session, generation, images(size), "dymbatch")
        np.testing.assert_allclose(scores, compiled.scores(images(size)), rtol=1e-5, atol=1e-6)
    assert [event.details["batch"] for event in read_events(tmp_path, "run")] == [4, 1, 2, 4]
    assert violations(tmp_path) == []


def test_aipp_on_the_device_equals_the_guides_preprocessing(generation: str, tmp_path: Path) -> None:
    onnx = DIGITS / "1" / "model.onnx"
    write_om(tmp_path / "pixels.om", onnx, batch_sizes=(4,), aipp=Preprocessing())
    write_om(tmp_path / "normalised.om", onnx, batch_sizes=(4,))
    files = [path.read_bytes() for path in digit_files()[:4]]
    pixels = interface().InferSession(0, str(tmp_path / "pixels.om"))
    normalised = interface().InferSession(0, str(tmp_path / "normalised.om"))
    scores = infer(pixels, generation, np.stack([reference_pixels(data) for data in files]))
    tensors = np.ascontiguousarray(np.stack([reference_tensor(data) for data in files]))
    expected = infer(normalised, generation, tensors)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.usefixtures("generation")
def test_a_size_that_is_no_gear_changes_nothing(compiled: Compiled, capfd: pytest.CaptureFixture[str]) -> None:
    session = native_session(compiled.gears)
    session.set_dynamic_batchsize(2)
    capfd.readouterr()
    with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        session.set_dynamic_batchsize(3)
    assert "gears: [1, 2, 4]" in capfd.readouterr().out
    assert session.get_inputs()[0].realsize == 2 * IMAGE_BYTES
    with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        native_session(compiled.bs4).set_dynamic_batchsize(4)


def test_a_dynamic_model_needs_a_gear(generation: str, compiled: Compiled) -> None:
    session = interface().InferSession(0, str(compiled.gears))
    if generation == "N":  # which finds it in the array's shape
        assert session.infer([images(2)])[0].shape == (2, CLASSES)
        return
    with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
        session.infer([images(4)])
    session.set_dynamic_batchsize(2)
    if generation == "A":  # whose static mode forgets it
        with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
            session.infer([images(2)])
        session.set_dynamic_batchsize(2)
    assert session.run([images(2)], out_array=True)[0].shape == (2, CLASSES)


@pytest.mark.usefixtures("generation")
def test_an_output_has_the_gears_shape_and_the_largest_gears_buffer(compiled: Compiled) -> None:
    session = native_session(compiled.gears)
    session.set_dynamic_batchsize(1)
    array = images(1)
    (output,) = session.run([session.get_outputs()[0].name], [host_memory(array)])
    assert output.shape == [1, CLASSES]
    assert len(output._memory) == 4 * CLASSES * 4


def test_the_newest_hands_its_whole_pooled_buffer_on(compiled: Compiled, tmp_path: Path) -> None:
    array = images(4)
    with standin_loaded(generation="N", state=str(tmp_path)):
        session = native_session(compiled.gears)
        names = [session.get_outputs()[0].name]
        session.set_dynamic_batchsize(4)
        session.run(names, [host_memory(array)])
        session.set_dynamic_batchsize(2)
        with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
            session.run(names, [host_memory(array[:2])])


@pytest.mark.parametrize(
    "arguments", [("model.om", 0), ("model.om", 0, {}), (1, 0, None), ("model.om", "0", None), ("model.om", 0, None, 1)]
)
@pytest.mark.usefixtures("middle")
def test_a_session_takes_exactly_path_device_and_options(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        runtime().InferenceSession(*arguments)


@pytest.mark.usefixtures("middle")
def test_options_check_their_fields() -> None:
    options = runtime().session_options()
    assert (options.loop, options.log_level, options.acl_json_path) == (1, 2, "")
    with pytest.raises(TypeError):
        options.loop = "1"
    with pytest.raises(AttributeError):
        options.device = 0


def test_only_the_number_of_bytes_is_checked_and_what_is_not_is_written_down(
    generation: str, compiled: Compiled, tmp_path: Path
) -> None:
    session = interface().InferSession(0, str(compiled.bs4))
    flat = infer(session, generation, images(4).ravel())
    integers = infer(session, generation, images(4).view(np.int32))
    np.testing.assert_array_equal(flat, integers)
    assert violations(tmp_path) == ["unchecked input", "unchecked input"]
    with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
        infer(session, generation, images(3))


def test_strides_are_ignored_except_where_infer_mends_them(generation: str, compiled: Compiled, tmp_path: Path) -> None:
    session = interface().InferSession(0, str(compiled.bs4))
    swapped = images(4).transpose(0, 1, 3, 2)
    right, wrong = compiled.scores(np.ascontiguousarray(swapped)), compiled.scores(images(4))
    np.testing.assert_allclose(session.run([swapped], out_array=True)[0], wrong, rtol=1e-5, atol=1e-6)
    assert violations(tmp_path) == ["unchecked input"]
    expected = wrong if generation == "T" else right
    np.testing.assert_allclose(infer(session, generation, swapped), expected, rtol=1e-5, atol=1e-6)


def test_feeds_of_other_types_are_refused(generation: str, compiled: Compiled) -> None:
    session = interface().InferSession(0, str(compiled.bs1))
    with pytest.raises(RuntimeError, match=r"type:.* invalid"):
        session.infer([images(1).tolist()])
    with pytest.raises(TypeError):
        native_session(compiled.bs1).run(["scores"], [images(1)])
    if generation != "N":  # a memmap is an ndarray, but its type is not
        with pytest.raises(RuntimeError, match=r"type:.* invalid"):
            session.infer([images(1).view(np.memmap)])


@pytest.mark.usefixtures("generation")
def test_too_few_feeds_and_unknown_outputs_fail(compiled: Compiled) -> None:
    session = native_session(compiled.bs1)
    array = images(1)
    (output,) = session.get_outputs()
    with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
        session.run([output.name], [])
    with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
        session.run(["scores"], [host_memory(array)])
    assert len(session.run([output.name, output.name], [host_memory(array)])) == 2


def test_unknown_modes(generation: str, compiled: Compiled) -> None:
    session = interface().InferSession(0, str(compiled.bs1))
    if generation == "T":
        assert session.infer([images(1)], "dynbatch")[0].shape == (1, CLASSES)
        return
    with pytest.raises((RuntimeError, ValueError), match=r"wrong infer_mode|infer mode is illegal"):
        session.infer([images(1)], "dynbatch")
    with pytest.raises(RuntimeError, match="not a dymbatch model!"):
        session.infer([images(1)], "dymbatch")
    gears = interface().InferSession(0, str(compiled.gears))
    with pytest.raises(RuntimeError, match="dim not matched!"):
        interface().InferSession(0, str(compiled.bs4)).infer([images(2)], "dymbatch")
    with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        gears.infer([images(3)], "dymbatch")
