"""For the tests of ``repserve convert onnx2om``: tiny ONNX models, and runs of the command over a stand-in atc."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import psutil
from click.testing import CliRunner
from onnx import TensorProto, helper

from repserve_convert.cli import convert

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def write_model(
    path: Path,
    *,
    name: str = "actual_input_1",
    uint8: bool = False,
    side: int = 224,
    batch: str | int = "batch",
    shape: tuple[str | int, ...] | None = None,
    dtype: int | None = None,
) -> Path:
    """Write a model whose three scores are the means of the channels.

    It takes float32 NCHW, or uint8 NHWC; ``shape`` and ``dtype`` make it take something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes, value = [], name
    if uint8:
        nodes += [
            helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["image"], perm=[0, 3, 1, 2]),
        ]
        value = "image"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["output1"]),
    ]
    image = (batch, side, side, 3) if uint8 else (batch, 3, side, side)
    graph = helper.make_graph(
        nodes,
        "means",
        [
            helper.make_tensor_value_info(
                name, dtype or (TensorProto.UINT8 if uint8 else TensorProto.FLOAT), shape or image
            )
        ],
        [helper.make_tensor_value_info("output1", TensorProto.FLOAT, (batch, 3))],
    )
    onnx.save(helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)]), path)
    return path


def arguments(source: Path, *more: str) -> list[str]:
    return ["onnx2om", str(source), "--soc-version", "310P3", "--into", "repo/means/1", *more]


def run(source: Path, *more: str) -> Result:
    return CliRunner().invoke(convert, arguments(source, *more))


def succeed(source: Path, *more: str) -> list[str]:
    """The lines that a run which succeeds prints."""
    result = run(source, *more)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def fail(source: Path, *more: str) -> str:
    """The last line of a run that fails; the log comes before it."""
    result = run(source, *more)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def state(root: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, and empty folders as such."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def started(tmp_path: Path) -> list[int]:
    """The processes of an atc that hangs, and of its compiler."""
    file = tmp_path / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
