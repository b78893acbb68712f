"""What the bindings say of a model's inputs and outputs: references into the session that do not keep it alive."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from weakref import ref

from standin.failures import crash
from standin.tensor import DataType

if TYPE_CHECKING:
    from standin.model_file import Header

NCHW, NHWC, ND = 0, 1, 2
DYNAMIC = -1


@dataclass
class Description:
    """What a session holds of one input or output."""

    name: str
    datatype: DataType
    format: int
    shape: list[int]
    size: int
    realsize: int


FIELDS = tuple(field.name for field in fields(Description))


def describe(header: Header) -> tuple[list[Description], list[Description]]:
    """Inputs and outputs as they are listed.

    With gears the input's batch is -1, its sizes are those of the largest gear, and the output has the batch of the
    largest. The hidden input that holds the gear is not listed.
    """
    largest = header.batch_sizes[-1]
    channels, height, width = header.shape
    image = [height, width, channels] if header.uint8 else [channels, height, width]
    datatype = DataType.uint8 if header.uint8 else DataType.float32
    # A network that takes NHWC by itself is compiled with the format ND.
    layout = ND if header.pixels else NHWC if header.aipp else NCHW
    size = largest * channels * height * width * datatype.numpy.itemsize
    shape = [DYNAMIC if header.gears else largest, *image]
    scores = largest * header.classes * 4
    return (
        [Description(header.input_name, datatype, layout, shape, size, size)],
        [Description(header.output_name, DataType.float32, ND, [largest, header.classes], scores, scores)],
    )


class TensorDescriptor:
    """``aclruntime.tensor_desc``: reads the session's own entry, and dies with SIGSEGV once the session is gone."""

    def __init__(self, owner: object, description: Description) -> None:
        self._owner, self._description = ref(owner), description

    def __getattr__(self, field: str) -> Any:  # noqa: ANN401 - a field of any type
        if field not in FIELDS:
            raise AttributeError(f"tensor_desc has no attribute {field!r}")
        if self._owner() is None:
            crash(f"tensor_desc.{field} was read after its session had gone")
        value = getattr(self._description, field)
        return list(value) if isinstance(value, list) else value
