"""Names, descriptors and lives of the stand-in's sessions."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from support.standin_harness import (
    CLASSES,
    CROP,
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
from support.standin_models import read_events, standin_loaded, violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_each_generation_has_its_names_and_no_others(generation: str, compiled: Compiled) -> None:
    native = runtime().InferenceSession
    perf = {
        "T": {"sumary", "reset_sumaryinfo"},
        "A": {"sumary", "reset_sumaryinfo"},
        "N": {"sumary", "summary", "reset_summaryinfo"},
    }
    spellings = {"sumary", "summary", "reset_sumaryinfo", "reset_summaryinfo"}
    assert {name for name in spellings if hasattr(native, name)} == perf[generation]
    assert hasattr(native, "free_resource") == (generation != "T")
    assert hasattr(runtime(), "get_run_mode") == (generation == "N")
    wrapped = interface().InferSession(0, str(compiled.bs1))
    if generation == "T":
        assert {name for name in spellings if hasattr(wrapped, name)} == {"sumary", "reset_sumaryinfo"}
    else:
        assert {"summary", "reset_summaryinfo"} <= {name for name in spellings if hasattr(wrapped, name)}
    assert hasattr(wrapped, "free_resource") == (generation != "T")


def test_times_are_durations_in_the_oldest_and_pairs_since(generation: str, compiled: Compiled, tmp_path: Path) -> None:
    session = interface().InferSession(0, str(compiled.bs1))
    for _ in range(3):
        infer(session, generation, images(1))
    times = (session.sumary if generation == "T" else session.summary)().exec_time_list
    assert len(times) == 3
    assert all(isinstance(entry, float if generation == "T" else tuple) for entry in times)
    (session.reset_sumaryinfo if generation == "T" else session.reset_summaryinfo)()
    assert (session.sumary if generation == "T" else session.summary)().exec_time_list == []
    interface().MemorySummary.reset()
    assert interface().MemorySummary.get_h2d_time_list() == []
    assert [(event.details["list"], event.details["length"]) for event in read_events(tmp_path, "reset")] == [
        ("executions", 3),
        ("copies", 6),
    ]
    assert [event.details["executions"] for event in read_events(tmp_path, "run")] == [1, 2, 3]


@pytest.mark.usefixtures("generation")
def test_descriptors_say_what_the_model_takes_and_change_in_place(compiled: Compiled) -> None:
    session = native_session(compiled.gears)
    (entry,) = session.get_inputs()
    (output,) = session.get_outputs()
    assert (entry.name, entry.datatype.name, entry.format, entry.shape) == ("image", "float32", 0, [-1, 3, CROP, CROP])
    assert output.shape == [4, CLASSES]
    assert output.name != "scores"  # the compiler puts something in front
    assert (entry.size, entry.realsize) == (4 * IMAGE_BYTES, 4 * IMAGE_BYTES)
    session.set_dynamic_batchsize(2)
    assert (entry.size, entry.realsize) == (4 * IMAGE_BYTES, 2 * IMAGE_BYTES)
    session.set_staticbatch()
    assert entry.realsize == 2 * IMAGE_BYTES
    assert session.get_max_dym_batchsize() == 4
    other = native_session(compiled.aipp)
    (pixels,) = other.get_inputs()
    assert (pixels.datatype.name, pixels.format, pixels.shape) == ("uint8", 1, [4, CROP, CROP, 3])
    assert native_session(compiled.bs4).get_max_dym_batchsize() == 0


def test_a_failed_run_on_host_memory_leaks_its_input(generation: str, compiled: Compiled, tmp_path: Path) -> None:
    session = native_session(compiled.bs4)
    array = images(4)
    for _ in range(3):
        with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
            session.run(["unknown"], [host_memory(array)])
    leaks = [(event.details["buffers"], event.details["bytes"]) for event in read_events(tmp_path, "leak")]
    assert leaks == ([] if generation == "N" else [(count, 4 * IMAGE_BYTES) for count in (1, 2, 3)])


@pytest.mark.parametrize("content", [None, b"", b"IMOD not a model"], ids=["missing", "empty", "corrupt"])
def test_a_file_that_cannot_be_loaded_is_an_invalid_parameter_whatever_the_reason(
    content: bytes | None, generation: str, compiled: Compiled, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.om"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        RuntimeError, match="please check model path" if generation == "N" and content is None else INVALID_PARAMETER
    ):
        native_session(path)
    if content is not None:
        assert "145002" in capfd.readouterr().out
        (load,) = read_events(tmp_path, "load")
        assert load.details["context"] == 0
        native_session(compiled.bs1)
        assert read_events(tmp_path, "load")[-1].details["context"] == (0 if generation == "T" else 1)


def test_a_model_for_another_chip_does_not_load(compiled: Compiled, tmp_path: Path) -> None:
    with (
        standin_loaded(soc_version="Ascend310", state=str(tmp_path)),
        pytest.raises(RuntimeError, match=INVALID_PARAMETER),
    ):
        native_session(compiled.bs1)


@pytest.mark.parametrize("device", [1, -1])
def test_a_device_that_there_is_not_is_refused(device: int, generation: str, compiled: Compiled) -> None:
    text = "device id is out of range" if generation == "N" and device < 0 else r"^\[107001\]\[Error code unknown\] $"
    with pytest.raises(RuntimeError, match=text):
        native_session(compiled.bs1, device)


def test_the_newest_checks_the_path_and_the_number_itself(compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(generation="N"):
        (tmp_path / "link.om").symlink_to(compiled.bs1)
        (tmp_path / "model.bin").write_bytes(compiled.bs1.read_bytes())
        (tmp_path / "shared.om").write_bytes(compiled.bs1.read_bytes())
        (tmp_path / "shared.om").chmod(0o666)
        for name in ("link.om", "model.bin", "shared.om", "none.om"):
            with pytest.raises(ValueError, match=r"path"):
                interface().InferSession(0, str(tmp_path / name))
        with pytest.raises(ValueError, match="illegal"):
            interface().InferSession(256, str(compiled.bs1))


@pytest.mark.usefixtures("middle")
def test_after_free_nothing_runs_and_descriptors_stay_readable(compiled: Compiled) -> None:
    session = native_session(compiled.bs1)
    (entry,) = session.get_inputs()
    assert session.free_resource() == 0
    assert session.free_resource() == 1
    assert entry.name == "image"
    array = images(1)
    calls: list[Callable[[], object]] = [
        lambda: session.run([session.get_outputs()[0].name], [host_memory(array)]),
        session.set_staticbatch,
        lambda: str(session),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
            call()


@pytest.mark.usefixtures("middle")
def test_outputs_that_outlive_their_session_are_lost(compiled: Compiled, tmp_path: Path) -> None:
    session, other = native_session(compiled.bs1), native_session(compiled.bs1)
    array = images(1)
    (output,) = session.run([session.get_outputs()[0].name], [host_memory(array)])
    session.free_resource()
    other.set_staticbatch()
    assert output.shape == [1, CLASSES]
    with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        output.to_host()
    assert violations(tmp_path) == ["tensors outlive their session"]


@pytest.mark.usefixtures("middle")
def test_a_session_that_is_only_dropped_leaks_its_context(compiled: Compiled, tmp_path: Path) -> None:
    native_session(compiled.bs1)
    gc.collect()
    assert [event.name for event in read_events(tmp_path)] == ["init", "open", "load", "unload"]


@pytest.mark.usefixtures("generation")
def test_finalize_ends_everything_for_good(compiled: Compiled, tmp_path: Path) -> None:
    session, other = native_session(compiled.bs1), native_session(compiled.bs4)
    assert session.finalize() == 0
    assert violations(tmp_path) == ["finalised with live models"]
    assert other.finalize() == 0
    assert len(read_events(tmp_path, "finalize")) == 1
    with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        other.set_staticbatch()
    with pytest.raises(RuntimeError, match=r"^\[100001\]\[ACL is not initialized\] $"):
        native_session(compiled.bs1)


def test_the_newest_copies_in_the_context_of_the_first_session(compiled: Compiled) -> None:
    with standin_loaded(generation="N"):
        first, second = (interface().InferSession(0, str(path)) for path in (compiled.bs1, compiled.bs4))
        infer(second, "N", images(4))
        first.free_resource()
        with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
            infer(second, "N", images(4))


def test_lines_go_to_the_standard_output_at_every_load_and_run(
    generation: str, compiled: Compiled, capfd: pytest.CaptureFixture[str]
) -> None:
    session = interface().InferSession(0, str(compiled.bs1))
    assert "load model bs1.om success" in capfd.readouterr().out
    infer(session, generation, images(1))
    assert "model execute success" in capfd.readouterr().out


@pytest.mark.usefixtures("middle")
def test_a_loop_executes_as_often_as_it_says(compiled: Compiled) -> None:
    session = interface().InferSession(0, str(compiled.bs1), loop=3)
    infer(session, "A", images(1))
    assert len(session.summary().exec_time_list) == 3
