"""Tensors of the stand-in, and the contexts and threads that they need."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.standin_harness import (
    CROP,
    GENERAL_FAILURE,
    Compiled,
    host_memory,
    images,
    in_a_thread,
    infer,
    interface,
    native_session,
    runtime,
)
from support.standin_models import read_events, violations

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("generation")
def test_a_tensor_copies_and_numpy_views_it(compiled: Compiled) -> None:
    session = native_session(compiled.bs1)
    array = images(1)
    tensor = runtime().Tensor(array)
    view = np.asarray(tensor)
    array[:] = 0
    np.testing.assert_array_equal(view, images(1))
    view[:] = 7
    assert np.array(tensor).max() == 7
    assert (tensor.shape, tensor.dtype.name, tensor.device) == ([1, 3, CROP, CROP], "float32", -1)
    for wrong in ([1, 2], "text"):
        with pytest.raises(TypeError):
            runtime().Tensor(wrong)
    assert session


@pytest.mark.usefixtures("generation")
def test_numpy_makes_an_empty_object_of_a_tensor_on_the_device(compiled: Compiled) -> None:
    session = native_session(compiled.bs1)
    array = images(1)
    (output,) = session.run([session.get_outputs()[0].name], [host_memory(array)])
    assert output.type == runtime().memory_device
    assert (np.array(output).dtype, np.array(output).shape) == (np.dtype(object), ())
    output.to_host()
    np.testing.assert_allclose(np.array(output), compiled.scores(array), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("generation")
def test_tensors_run_by_order_or_name_once_they_are_on_the_device(compiled: Compiled, tmp_path: Path) -> None:
    session = native_session(compiled.bs1)
    names = [session.get_outputs()[0].name]
    tensor = runtime().Tensor(images(1))
    with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
        session.run(names, [tensor])
    tensor.to_device(0)
    for feeds in ([tensor], {"image": tensor}):
        (output,) = session.run(names, feeds)
        output.to_host()
        np.testing.assert_allclose(np.array(output), compiled.scores(images(1)), rtol=1e-5, atol=1e-6)
    assert violations(tmp_path) == ["host memory fed to the device"]
    with pytest.raises(RuntimeError, match=r"^\[1004\]\[Invalid parameter\] $"):
        tensor.to_device(3)


@pytest.mark.usefixtures("generation")
def test_a_tensor_needs_a_context_on_its_thread(compiled: Compiled) -> None:
    session = native_session(compiled.bs1)
    error = in_a_thread(lambda: runtime().Tensor(images(1)))
    assert isinstance(error, RuntimeError)
    assert str(error) == "[2][ACL: memory allocation fail] "
    assert in_a_thread(lambda: (session.set_staticbatch(), runtime().Tensor(images(1)))) is None


def test_another_thread_may_run_a_session_and_it_is_written_down(
    generation: str, compiled: Compiled, tmp_path: Path
) -> None:
    session = interface().InferSession(0, str(compiled.bs1))
    assert in_a_thread(lambda: infer(session, generation, images(1))) is None
    assert violations(tmp_path) == ["other thread"]
    (run,) = read_events(tmp_path, "run")
    assert run.thread != threading.get_native_id()
    assert run.pid == os.getpid()
