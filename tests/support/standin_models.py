"""Models and settings for the stand-in NPU of ``tests/standin``, and a look at what was done with it."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from standin.faults import Faults
from standin.journal import Event, arm, read_events
from standin.model_file import Header, write
from standin.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ValueInfoProto

    from repserve_server.imaging.preprocessing import Preprocessing

__all__ = ["Event", "arm", "read_events", "standin_environment", "standin_loaded", "violations", "write_om"]

STANDIN = Path(__file__).resolve().parents[1] / "standin"
PACKAGES = ("standin", "aclruntime", "ais_bench")
UINT8 = 2
"""ONNX's number of that type."""
LARGEST_GEAR = 2048
"""ATC's limit for a batch size."""


def standin_environment(**chosen: str) -> dict[str, str]:
    """The environment variables under which ``import aclruntime`` and ``import ais_bench`` find the stand-in.

    Args:
        chosen: settings by name, all text: ``generation``, ``devices``, ``soc_version``, ``state``, ``faults``,
            ``poison``, ``armed``, ``batch_seconds``, ``ends``. ``standin.settings.Settings`` says what they mean, and
            ``standin.faults`` which faults there are.

    Raises:
        TypeError: for a setting that there is not.
        ValueError: for a value that is not understood.
    """
    folders = (str(STANDIN), str(STANDIN.parent), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders)), **_variables(**chosen)}


def _variables(**chosen: str) -> dict[str, str]:
    Faults(Settings(**chosen))  # refuses what it does not understand
    return {PREFIX + name.upper(): value for name, value in chosen.items()}


@contextmanager
def standin_loaded(**chosen: str) -> Iterator[None]:
    """Let this process import the stand-in afresh with these settings; afterwards it is as before.

    For tests of code that imports ``aclruntime`` or ``ais_bench`` in functions. What would end or freeze the process
    raises ``standin.failures.ProcessEnded`` here.
    """
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in PACKAGES}
    environment = dict(os.environ)
    os.environ.update(_variables(**{"ends": "as errors", **chosen}))
    sys.path.insert(0, str(STANDIN))
    try:
        yield
    finally:
        if interface := sys.modules.get("ais_bench.infer.interface"):
            atexit.unregister(interface.InferSessionN._end)
        sys.path.remove(str(STANDIN))
        os.environ.clear()
        os.environ.update(environment)
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        sys.modules.update(before)


def violations(state: Path) -> list[str]:
    """The rules that were broken and the ways processes ended, in order; empty after a run without reproach."""
    found = (event for event in read_events(state) if event.name in ("violation", "end"))
    return [str(event.details.get("rule") or event.details["how"]) for event in found]


def write_om(
    path: Path,
    onnx: Path,
    *,
    batch_sizes: tuple[int, ...],
    gears: bool = False,
    aipp: Preprocessing | None = None,
    soc_version: str = "Ascend310P3",
    side: int = 224,
) -> None:
    """Compile an ONNX file for the stand-in.

    Args:
        path: where the .om goes.
        onnx: a network with one input, float32 NCHW or uint8 NHWC, and one float32 output of scores.
        batch_sizes: the one size of a static model, or the gears of a dynamic one.
        gears: whether the batch is dynamic.
        aipp: what the device is to do to uint8 NHWC pixels; None for a model that takes normalised float32 NCHW.
        soc_version: the chip it is for.
        side: of the image, in pixels, where the network leaves it open.

    Raises:
        ValueError: if the sizes are not what ATC takes, or the ONNX does not fit them.
    """
    ascending = sorted(set(batch_sizes))
    if list(batch_sizes) != ascending or not ascending or ascending[0] < 1 or ascending[-1] > LARGEST_GEAR:
        raise ValueError(f"batch_sizes = {batch_sizes}: ascending sizes from 1 to {LARGEST_GEAR}")
    if gears == (len(batch_sizes) == 1):
        raise ValueError(f"batch_sizes = {batch_sizes}: one for a static model, at least two gears for a dynamic one")
    graph = _graph(onnx)
    pixels = graph.input[0].type.tensor_type.elem_type == UINT8
    batch, *image = _dimensions(graph.input[0])
    if len(image) != 3 or batch not in (0, *batch_sizes[:1]) or (aipp and pixels):
        raise ValueError(f"{onnx}: input {[batch, *image]} is not (batch, channels, height, width), or not for AIPP")
    channels, height, width = (size or side for size in ((image[2], image[0], image[1]) if pixels else image))
    if aipp and (aipp.crop, aipp.crop) != (height, width):
        raise ValueError(f"{onnx}: crop = {aipp.crop}, but the network takes {height} x {width}")
    output = graph.output[0]
    maker = next(node.op_type for node in graph.node if output.name in node.output)
    header = Header(
        soc_version=soc_version,
        batch_sizes=batch_sizes,
        gears=gears,
        input_name=graph.input[0].name,
        shape=(channels, height, width),
        # The compiler puts the node and the output's number in front of the name.
        output_name=f"{maker}_0:0:{output.name}",
        classes=_dimensions(output)[-1],
        mean=_times_255(aipp.mean) if aipp else None,
        reciprocal=_inverse(_times_255(aipp.std)) if aipp else None,
        pixels=pixels,
    )
    write(path, header, onnx.read_bytes())


def _graph(onnx: Path) -> GraphProto:
    from onnx import load

    return load(onnx).graph


def _dimensions(value: ValueInfoProto) -> list[int]:
    """The shape; 0 for a dimension that has a name instead."""
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _times_255(values: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = values
    return (first * 255, second * 255, third * 255)


def _inverse(values: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = values
    return (1 / first, 1 / second, 1 / third)
