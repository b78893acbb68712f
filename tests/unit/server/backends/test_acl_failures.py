"""The NPU backend when runs fail, and when what comes back is no answer: over the stand-in of the vendor's packages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_server.backends.base import DeviceError
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from support.acl_harness import loaded, pixels
from support.digits_server import compile_digits
from support.standin_models import read_events

if TYPE_CHECKING:
    from pathlib import Path


def test_a_failed_run_is_tried_once_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = normalise(pixels(1), Preprocessing())
    folder = compile_digits("npu bs1 bs16", tmp_path)
    with loaded(tmp_path, folder, faults="run:2") as backend, caplog.at_level(logging.WARNING):
        first = backend.run(batch)
        np.testing.assert_array_equal(backend.run(batch), first)
        assert "a run of model_bs1.om failed ([-1][ACL: general failure])" in caplog.text
        assert len(read_events(tmp_path / "state", "run")) == 3


@pytest.mark.parametrize("kind", ["npu bs1 bs16", "npu gears"])
def test_two_failures_in_a_row_are_the_end_of_the_device_for_this_process(tmp_path: Path, kind: str) -> None:
    batch = normalise(pixels(1), Preprocessing())
    with loaded(tmp_path, compile_digits(kind, tmp_path), faults="run:2+") as backend:
        backend.run(batch)
        with pytest.raises(DeviceError, match=r"failed twice in a row on the device \(\[-1\]"):
            backend.run(batch)
        assert len(read_events(tmp_path / "state", "run")) == 3


@pytest.mark.parametrize("raised", [MemoryError(), IndexError("vector"), ValueError("shape"), RuntimeError("[-1] ")])
def test_whatever_the_vendors_code_raises_is_a_failure_of_the_device(tmp_path: Path, raised: Exception) -> None:
    class Broken:
        def __init__(self, session: object) -> None:
            self._session = session

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def run(self, *_: object, **__: object) -> None:
            raise raised

    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path)) as backend:
        model = backend._by_size[1]
        model._session = Broken(model._session)
        with pytest.raises(DeviceError, match="failed twice in a row"):
            backend.run(normalise(pixels(1), Preprocessing()))


@pytest.mark.parametrize("answer", [np.array(None, dtype=object), np.zeros((1, 3), np.float32), "no array"])
def test_what_cannot_be_scores_is_a_failure_of_the_device(tmp_path: Path, answer: object) -> None:
    """An array made of a tensor that is still on the device holds one object, and no numbers."""

    class Odd:
        def __init__(self, session: object) -> None:
            self._session = session

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

        def run(self, *_: object, **__: object) -> list[object]:
            return [answer]

    with loaded(tmp_path, compile_digits("npu bs1 bs16", tmp_path)) as backend:
        model = backend._by_size[1]
        model._session = Odd(model._session)
        with pytest.raises(DeviceError, match="no scores that can be read"):
            backend.run(normalise(pixels(1), Preprocessing()))


def test_the_gear_is_set_again_before_a_failed_run_is_tried_again(tmp_path: Path) -> None:
    with loaded(tmp_path, compile_digits("npu gears", tmp_path), faults="run:2") as backend:
        batch = normalise(pixels(4), Preprocessing())
        backend.run(batch)
        model = backend._by_size[4]
        sizes: list[int] = []
        set_size = model._session.set_dynamic_batchsize

        def note_size(size: int) -> None:
            sizes.append(size)
            set_size(size)

        model._session.set_dynamic_batchsize = note_size
        backend.run(batch)
        assert sizes == [4]


def test_a_session_that_cannot_be_freed_does_not_keep_the_others_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise RuntimeError("[507033][Error code unknown] ")

    state = tmp_path / "state"
    folder = compile_digits("npu bs1 bs16", tmp_path)
    with loaded(tmp_path, folder) as backend:
        backend._by_size[16]._session.free_resource = refuse
        backend.close()
        assert "model_bs16.om was not freed: [507033]" in caplog.text
        assert [event.details["file"] for event in read_events(state, "free")] == ["model_bs1.om"]
