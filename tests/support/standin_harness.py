"""A small network compiled for the stand-in, and its modules, for the tests of the stand-in itself."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from repserve_server.imaging.preprocessing import Preprocessing
from support.standin_models import standin_environment, write_om

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CROP, CLASSES = 8, 5
SMALL = Preprocessing(resize=10, crop=CROP)
GEARS = (1, 2, 4)
IMAGE_BYTES = 3 * CROP * CROP * 4
GENERAL_FAILURE = r"^\[-1\]\[ACL: general failure\] $"
INVALID_PARAMETER = r"^\[1\]\[ACL: invalid parameter\] $"


@dataclass(frozen=True)
class Compiled:
    """Model files of one matrix product, so that the expected scores are easy to say."""

    weight: NDArray[np.float32]
    bs1: Path
    bs4: Path
    gears: Path
    aipp: Path

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network says of normalised images."""
        scores: NDArray[np.float32] = images.reshape(len(images), -1) @ self.weight
        return scores


def compile_network(folder: Path) -> Compiled:
    """Write one file of each kind; ``aipp`` takes batches of 4."""
    weight = (np.random.default_rng(3).normal(size=(3 * CROP * CROP, CLASSES)) / 10).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, CROP, CROP])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    network = folder / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), network)
    compiled = Compiled(weight, *(folder / f"{name}.om" for name in ("bs1", "bs4", "gears", "aipp")))
    write_om(compiled.bs1, network, batch_sizes=(1,))
    write_om(compiled.bs4, network, batch_sizes=(4,))
    write_om(compiled.gears, network, batch_sizes=GEARS, gears=True)
    write_om(compiled.aipp, network, batch_sizes=(4,), aipp=SMALL)
    return compiled


def images(count: int) -> NDArray[np.float32]:
    """Normalised images, float32 [count, 3, 8, 8]."""
    return np.random.default_rng(4).standard_normal((count, 3, CROP, CROP)).astype(np.float32)


def runtime() -> Any:  # noqa: ANN401 - a module
    """``aclruntime``, inside ``standin_loaded``."""
    return importlib.import_module("aclruntime")


def interface() -> Any:  # noqa: ANN401 - a module
    """``ais_bench.infer.interface``, inside ``standin_loaded``."""
    return importlib.import_module("ais_bench.infer.interface")


def native_session(path: Path, device: int = 0) -> Any:  # noqa: ANN401 - a class of each generation
    """A session of aclruntime itself."""
    return runtime().InferenceSession(str(path), device, runtime().session_options())


def host_memory(array: NDArray[np.generic]) -> object:
    """An array as ``BaseTensor``; the array must outlive it."""
    return runtime().BaseTensor(array.ctypes.data, array.nbytes)


def infer(
    session: Any,  # noqa: ANN401 - a class of each generation
    generation: str,
    feed: NDArray[np.generic],
    mode: str = "static",
) -> NDArray[np.float32]:
    """What a caller does in each generation for the scores of one feed."""
    if generation == "T" and mode == "dymbatch":
        session.set_dynamic_batchsize(len(feed))
    scores: NDArray[np.float32]
    (scores,) = session.infer([feed], mode)
    return scores


def in_a_thread(action: Callable[[], object]) -> BaseException | None:
    """Call in a new thread; returns what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return raised[0] if raised else None


@contextmanager
def running_script(script: str, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A Python script on the stand-in, in a process of its own, which is gone afterwards with all that it started."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **standin_environment(**settings)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finished(script: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """Exit status and standard error of a script that ends by itself."""
    with running_script(script, *arguments, **settings) as process:
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors
