"""A KServe v2 inference as both of its wire formats carry it: named tensors in, named tensors out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from repserve_server.errors import InvalidRequestError

REGION, BYTE_SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
"""The parameters of a tensor that lies in shared memory."""
Buffer: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True)
class RegionSlice:
    """Where a tensor lies in a registered shared-memory region; offset and size in bytes."""

    region: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input; ``data`` is its raw little-endian content, of BYTES as ``bytes_tensor`` has it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer | RegionSlice


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that is asked for: ``classification`` best classes instead of scores, ``place`` in shared memory."""

    name: str
    classification: int = 0
    place: RegionSlice | None = None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request; no ``outputs`` means all of them, no ``version`` the newest, ``priority`` 1 goes first."""

    model: str
    version: str
    id: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[WantedOutput, ...] = ()
    priority: int = 0
    timeout_microseconds: int = 0


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output, raw as an input is, or where it was written in shared memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | RegionSlice


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """The answer, by one version of the model."""

    model: str
    version: str
    id: str
    outputs: tuple[OutputTensor, ...]


def read_number(name: str, value: object) -> int:
    """The value of a parameter that is a whole number.

    Raises:
        InvalidRequestError: it is anything else, or less than 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"the parameter {name!r} is {value!r}; it is a whole number of at least 0")
    return value
