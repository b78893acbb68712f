"""The digits model served on the CPU, or compiled for the stand-in NPU in each way that there is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from repserve_server.imaging.preprocessing import Preprocessing
from support.harness import DIGITS, RunningServer
from support.standin_models import standin_environment, write_om

if TYPE_CHECKING:
    from pathlib import Path

CPU = "cpu"
GEARS = (1, 2, 4, 8, 16)
DIGITS_ON_CPU = ("--model", "repvgg_digits", "--precision", "f32")
"""The arguments of the server that most tests share."""
NPU_KINDS = ("npu bs1 bs16", "npu gears", "npu aipp")
KINDS = (CPU, *NPU_KINDS)
SLOT_KINDS = (CPU, "npu bs1 bs16")
"""Images lie in the slots as uint8 pixels, or as normalised float32: all that a frontend's failures can tell apart."""
INSTANCES = {
    CPU: ("cpu", "openvino", "f32", GEARS),
    "npu bs1 bs16": ("npu:0", "acl", "as compiled", (1, 16)),
    "npu gears": ("npu:0", "acl", "as compiled", GEARS),
    "npu aipp": ("npu:0", "acl", "as compiled", (1, 16)),
}
"""What each kind is listed as: device, backend, precision and batch sizes."""


def compile_digits(kind: str, repository: Path) -> Path:
    """A repository with the digits model as .om files of the stand-in; returns the version's folder."""
    version = repository / "repvgg_digits" / "1"
    version.mkdir(parents=True)
    for name in ("model.toml", "labels.txt"):
        shutil.copy(DIGITS / name, version.parent)
    onnx = DIGITS / "1" / "model.onnx"
    if kind == "npu gears":
        write_om(version / "model_gears.om", onnx, batch_sizes=GEARS, gears=True)
        return version
    for size in (1, 16):
        aipp = Preprocessing() if kind == "npu aipp" else None
        write_om(version / f"model_bs{size}.om", onnx, batch_sizes=(size,), aipp=aipp)
    return version


def digits_server(kind: str, folder: Path, *arguments: str, **standin: str) -> RunningServer:
    """A server of one of ``KINDS``, not started yet.

    Args:
        kind: where the model runs.
        folder: an empty folder for the repository and the stand-in's state.
        arguments: more flags.
        standin: settings of the stand-in, such as ``faults``.
    """
    if kind == CPU:
        return RunningServer(*DIGITS_ON_CPU, *arguments)
    compile_digits(kind, folder / "repository")
    state = folder / "state"
    state.mkdir()
    return RunningServer(
        *("--device", "npu:0", *arguments),
        repository=folder / "repository",
        environment=standin_environment(state=str(state), **standin),
    )
