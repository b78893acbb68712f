"""The stand-in's .om file: a mark, a header and the ONNX itself."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"STAND-IN OM 1\n"
LENGTH_BYTES = 4


@dataclass(frozen=True)
class Header:
    """What the compiler decided.

    Attributes:
        soc_version: the chip it was compiled for, such as ``Ascend310P3``.
        batch_sizes: ascending; one for a static model, the gears for one with a dynamic batch.
        gears: whether the batch is dynamic.
        input_name: name of the input.
        shape: of one image of the ONNX, (channels, height, width).
        output_name: name of the output.
        classes: scores of one image.
        mean: of an AIPP model, what is subtracted from a pixel, per channel, 0 to 255.
        reciprocal: of an AIPP model, what the difference is multiplied by.
        pixels: whether the network itself takes uint8, NHWC.
    """

    soc_version: str
    batch_sizes: tuple[int, ...]
    gears: bool
    input_name: str
    shape: tuple[int, int, int]
    output_name: str
    classes: int
    mean: tuple[float, float, float] | None = None
    reciprocal: tuple[float, float, float] | None = None
    pixels: bool = False

    @property
    def aipp(self) -> bool:
        """Whether the device normalises."""
        return self.mean is not None

    @property
    def uint8(self) -> bool:
        """Whether the input is uint8, NHWC, rather than float32, NCHW."""
        return self.aipp or self.pixels


def write(path: Path, header: Header, onnx: bytes) -> None:
    """Write the file; nobody sees half of it."""
    encoded = json.dumps(asdict(header)).encode()
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(MARK + len(encoded).to_bytes(LENGTH_BYTES, "big") + encoded + onnx)
    os.replace(temporary, path)  # noqa: PTH105 - as Path.replace, but says that it overwrites


def read(path: Path) -> tuple[Header, bytes]:
    """The header and the ONNX; raises OSError or ValueError for a file that is not one of these."""
    content = path.read_bytes()
    if not content.startswith(MARK):
        raise ValueError(f"{path}: not a model file of the stand-in")
    start = len(MARK) + LENGTH_BYTES
    end = start + int.from_bytes(content[len(MARK) : start], "big")
    values: dict[str, Any] = json.loads(content[start:end], object_hook=_with_tuples)
    return Header(**values), content[end:]


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
