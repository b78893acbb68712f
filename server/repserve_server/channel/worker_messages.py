"""The control messages to and from a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from repserve_server.channel.message import CollectMetrics, Identity, Message, MetricsReport, SetLogLevel, Stop, Text
from repserve_server.channel.model_info import InputInfo, Output
from repserve_server.channel.slots import SlotLayout
from repserve_server.imaging.preprocessing import Preprocessing


class LoadWorker(Message):
    """The first message to a worker: load a version of a model, warm it up and check it.

    Attributes:
        identity: how it logs.
        model: the model's name.
        version: its version.
        device: what it runs on.
        instance: its number among the workers on that device.
        folder: the version's folder.
        runtime: ``auto`` or the name of a backend.
        precision: arithmetic wanted.
        threads: CPU threads it may use.
        max_batch_size: the largest batch.
        compiled_sizes: batch sizes that the model is compiled for, where model.toml names them.
        classes: the number of labels; None without labels.
        labels: the first of them, for messages.
        output: what the model's scores are.
        preprocessing: what is done to an image.
        crop_open: the crop in ``preprocessing`` is a default, and gives way to the model's own size.
    """

    kind: Literal["load_worker"] = "load_worker"
    identity: Identity
    model: str
    version: str
    device: str
    instance: int
    folder: Path
    runtime: str
    precision: Literal["auto", "f32", "bf16"]
    threads: int
    max_batch_size: int
    compiled_sizes: tuple[int, ...] | None
    classes: int | None
    labels: tuple[str, ...]
    output: Output
    preprocessing: Preprocessing
    crop_open: bool


class AttachFrontend(Message):
    """Take a frontend's images. Beside it: the memory of its slots, and the worker's end of the link."""

    kind: Literal["attach_frontend"] = "attach_frontend"
    frontend: str
    layout: SlotLayout


class ModelInterface(Message):
    """What all workers of a version must agree on, since they share slots."""

    input: InputInfo
    output_name: str
    classes: int
    preprocessing: Preprocessing


class GoldenResult(Message):
    """How a golden check went that was passed.

    Images compared and their largest difference of a probability; labelled images and their top-1 accuracy, if any.
    """

    images: int
    largest_difference: float
    labelled: int
    accuracy: float | None
    seconds: float


class WorkerReady(Message):
    """The model is loaded, measured and checked.

    Attributes:
        interface: what it takes and gives.
        backend: what runs it.
        precision: its arithmetic.
        simulated: whether its scores are made up.
        batch_seconds: the seconds of a run by its size, as they were measured.
        best_image_seconds: the seconds an image takes in a batch of the best size.
        golden: the golden check, if there was one.
    """

    kind: Literal["worker_ready"] = "worker_ready"
    interface: ModelInterface
    backend: str
    precision: str
    simulated: bool
    batch_seconds: dict[int, float]
    best_image_seconds: float
    golden: GoldenResult | None = None


class LoadFailed(Message):
    """The model cannot be loaded, and why."""

    kind: Literal["load_failed"] = "load_failed"
    reason: Text


class RecordGolden(Message):
    """Not for the control channel: what ``worker/golden_record.py`` reads from standard input."""

    load: LoadWorker
    files: tuple[Path, ...]
    target: Path


ToWorker = LoadWorker | AttachFrontend | CollectMetrics | SetLogLevel | Stop
FromWorker = WorkerReady | LoadFailed | MetricsReport
TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="kind")])
FROM_WORKER: TypeAdapter[FromWorker] = TypeAdapter(Annotated[FromWorker, Field(discriminator="kind")])
