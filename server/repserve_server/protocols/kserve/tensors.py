"""A KServe v2 inference as both wires carry it: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from repserve_server.dataplane.dataplane import Buffer

Parameters: TypeAlias = Mapping[str, object]
"""The parameters of a request or of a tensor, by name."""


@dataclass(frozen=True, slots=True)
class RegionSlice:
    """Where a tensor lies in a registered shared-memory region; offset and size in bytes."""

    region: str
    offset: int
    byte_size: int


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input.

    ``data`` is its raw little-endian content, BYTES as ``bytes_tensor`` describes them; or the elements of a BYTES
    tensor, where the wire has them apart; or where the raw content lies.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer | list[bytes] | RegionSlice


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output to return: the ``classification`` best classes instead of scores, ``place`` in shared memory."""

    name: str
    classification: int = 0
    place: RegionSlice | None = None


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request; no ``outputs`` means all of them, no ``version`` the newest."""

    model: str
    version: str
    id: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output: raw, or the elements of a BYTES tensor, or where it was written in shared memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | list[bytes] | RegionSlice


@dataclass(frozen=True, slots=True)
class InferenceResponse:
    """The answer, by one version of the model."""

    model: str
    version: str
    id: str
    outputs: tuple[OutputTensor, ...]
