from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import pytest

from repserve_server.imaging.preprocessing import Preprocessing
from standin.model_file import read
from support.harness import DIGITS
from support.standin_models import read_events, standin_environment, standin_loaded, violations, write_om

if TYPE_CHECKING:
    from pathlib import Path

ONNX = DIGITS / "1" / "model.onnx"


def test_a_model_file_holds_what_was_compiled_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.om"
    write_om(path, ONNX, batch_sizes=(1, 4), gears=True, soc_version="Ascend310")
    header, onnx = read(path)
    assert (header.soc_version, header.batch_sizes, header.gears, header.aipp) == ("Ascend310", (1, 4), True, False)
    assert (header.input_name, header.shape, header.classes) == ("actual_input_1", (3, 224, 224), 10)
    assert header.output_name.endswith(":0:output1")
    assert onnx == ONNX.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["model.om"]


def test_the_constants_of_aipp_are_those_of_the_guide_in_grey_levels(tmp_path: Path) -> None:
    write_om(tmp_path / "model.om", ONNX, batch_sizes=(1,), aipp=Preprocessing())
    header, _ = read(tmp_path / "model.om")
    assert header.mean == pytest.approx((123.675, 116.28, 103.53))
    assert header.reciprocal == pytest.approx((0.0171247538316637, 0.0175070028011204, 0.0174291938997821))


@pytest.mark.parametrize(
    ("batch_sizes", "gears"),
    [((), False), ((0,), False), ((1, 16), False), ((4,), True), ((8, 4), True), ((4096,), False)],
)
def test_sizes_that_the_compiler_does_not_take_are_refused(
    batch_sizes: tuple[int, ...], gears: bool, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="batch_sizes"):
        write_om(tmp_path / "model.om", ONNX, batch_sizes=batch_sizes, gears=gears)


def test_a_crop_that_is_not_the_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crop = 192, but the network takes 224 x 224"):
        write_om(tmp_path / "model.om", ONNX, batch_sizes=(1,), aipp=Preprocessing(crop=192))


def test_the_environment_puts_the_standin_in_front_and_keeps_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = standin_environment(generation="N", faults="load:1", state="there")
    first, second, third = environment.pop("PYTHONPATH").split(os.pathsep)
    assert (first, third) == (os.path.join(second, "standin"), "elsewhere")  # noqa: PTH118 - as text, in PYTHONPATH
    assert environment == {"STANDIN_GENERATION": "N", "STANDIN_FAULTS": "load:1", "STANDIN_STATE": "there"}


@pytest.mark.parametrize(
    "settings",
    [
        *({"generation": "B"}, {"devices": "many"}, {"armed": "never"}, {"batch_seconds": "fast"}),
        *({"faults": faults} for faults in ("walk", "run:0", "run:x", "no-driver:2", "leak:3+")),
        *({"poison": "1:load"}, {"poison": "red"}),
        *({"faults": "run:1"}, {"armed": "later"}),  # without a folder for the counts
    ],
    ids=str,
)
def test_a_setting_that_is_not_understood_is_refused_where_it_is_made(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several messages
        standin_environment(**settings)


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="speed"):
        standin_environment(speed="fast")


def test_loading_the_standin_leaves_the_process_as_it_was() -> None:
    path, modules = list(sys.path), {name for name in sys.modules if not name.startswith("standin")}
    with standin_loaded(generation="T"):
        assert not hasattr(importlib.import_module("aclruntime"), "get_run_mode")
        assert os.environ["STANDIN_GENERATION"] == "T"
    assert "aclruntime" not in sys.modules
    assert "STANDIN_GENERATION" not in os.environ
    assert sys.path == path
    assert {name for name in sys.modules if name.startswith("ais_bench")} == set()
    assert modules <= set(sys.modules)


def test_a_line_that_is_just_being_written_is_left_out(tmp_path: Path) -> None:
    whole = b'{"name": "violation", "pid": 1, "thread": 1, "details": {"rule": "example"}}\n'
    (tmp_path / "events.jsonl").write_bytes(whole + whole[:20])
    assert [event.name for event in read_events(tmp_path)] == ["violation"]
    assert read_events(tmp_path, "run") == []
    assert violations(tmp_path) == ["example"]
