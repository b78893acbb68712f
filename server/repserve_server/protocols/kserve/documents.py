"""The documents that KServe v2 answers with: sent as JSON over HTTP, and as messages with the same fields over gRPC."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from pydantic import JsonValue

Json: TypeAlias = dict[str, JsonValue]
SettingValue: TypeAlias = bool | int | str
IndexState: TypeAlias = Literal["READY", "LOADING", "UNAVAILABLE"]


class ServerMetadata(TypedDict):
    """The server's name and version, and the extensions of the protocol that it supports."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """A tensor's name, its KServe datatype, and its shape, of which the first, the batch, is -1."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(TypedDict):
    """A model's served versions and its tensors; ``platform`` is what runs it, such as ``repserve_openvino``."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class IndexEntry(TypedDict):
    """A version in the repository's index; ``reason`` says why it is not ready."""

    name: str
    version: str
    state: IndexState
    reason: str


class RegionStatus(TypedDict):
    """A registered shared-memory region; offset and size in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


class StatisticDuration(TypedDict):
    """How often something happened, and the nanoseconds it took in total."""

    count: int
    ns: int


class BatchStatistics(TypedDict):
    """The runs of one batch size."""

    batch_size: int
    compute_infer: StatisticDuration


class ModelStatistics(TypedDict):
    """A model version's requests and runs, over all frontends and workers.

    Attributes:
        last_inference: milliseconds since 1970; 0 for never.
        inference_count: images classified.
        execution_count: runs on the device.
        inference_stats: ``success`` and ``fail``, from arrival to response; and for requests that succeeded ``queue``,
            ``compute_input`` (decoding), ``compute_infer`` and ``compute_output``.
        batch_stats: the runs by the number of images in them, padding not counted.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, StatisticDuration]
    batch_stats: list[BatchStatistics]


class Statistics(TypedDict):
    """The statistics of one or more model versions."""

    model_stats: list[ModelStatistics]
