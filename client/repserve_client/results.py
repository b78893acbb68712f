"""Answers of a server, as plain immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from repserve_protos.v1 import classification_pb2

_MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class RankedClass:
    """One class of an image's answer."""

    index: int
    """Index of the class in the model's output."""
    label: str
    """Name of the class; empty if the model has no labels."""
    probability: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one image."""

    classes: tuple[RankedClass, ...]
    """Most probable first."""
    batch_size: int
    """Images in its batch, padding not counted."""
    queue_seconds: float
    """From being ready for the device until its batch started."""
    compute_seconds: float
    """Time its batch took on the device."""

    @property
    def best(self) -> RankedClass:
        """The most probable class."""
        return self.classes[0]

    @classmethod
    def from_message(cls, message: classification_pb2.Prediction) -> Prediction:
        """Make it from a protobuf message."""
        return cls(
            classes=tuple(RankedClass(ranked.index, ranked.label, ranked.probability) for ranked in message.classes),
            batch_size=message.batch_size,
            queue_seconds=message.queue_microseconds / _MICROSECONDS,
            compute_seconds=message.compute_microseconds / _MICROSECONDS,
        )


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer to one request."""

    model: str
    """The model that answered."""
    version: str
    """The version that answered."""
    predictions: tuple[Prediction, ...]
    """One per image, in the order of the request; an encoded image has exactly one."""
    decode_seconds: float
    """Time the server spent decoding, resizing and cropping; 0 for pixels."""

    @classmethod
    def from_message(cls, message: classification_pb2.ClassifyResponse) -> Classification:
        """Make it from a protobuf message."""
        return cls(
            model=message.model,
            version=message.version,
            predictions=tuple(Prediction.from_message(prediction) for prediction in message.predictions),
            decode_seconds=message.decode_microseconds / _MICROSECONDS,
        )


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """One worker process that runs a model on a device."""

    device: str
    """As in the server's settings: ``cpu``, ``npu:0``, ``sim:310p``."""
    backend: str
    """What runs the model: ``openvino``, ``onnxruntime``, ``simulated``, ``acl``."""
    precision: str
    """Arithmetic in force: ``f32``, ``bf16``, or ``none`` when simulated."""
    simulated: bool
    """True when no device runs: times are published ones and scores are made up."""
    batch_seconds: Mapping[int, float]
    """Time of one run by batch size, measured at warm-up."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A version of a model in the server's repository."""

    name: str
    version: str
    """Empty when the repository holds no version of it yet."""
    ready: bool
    """Whether it can answer now."""
    reason: str
    """Why it cannot, and what to do; empty when ready."""
    crop: int
    """Side in pixels of the square image the model takes."""
    classes: int
    """Number of classes."""
    instances: tuple[InstanceInfo, ...]
    """The workers that run it."""
    resize: int = 0
    """Length in pixels to which the shorter side is scaled before the crop; 0 if the server does not send it."""
    max_batch_size: int = 0
    """Most images in a batch; 0 if the server does not send it."""
    caution: str = ""
    """Why its answers mean nothing, such as random weights; empty for a real model."""

    @classmethod
    def from_message(cls, message: classification_pb2.Model) -> ModelInfo:
        """Make it from a protobuf message."""
        return cls(
            name=message.name,
            version=message.version,
            ready=message.ready,
            reason=message.reason,
            crop=message.crop,
            classes=message.classes,
            resize=message.resize,
            max_batch_size=message.max_batch_size,
            caution=message.caution,
            instances=tuple(
                InstanceInfo(
                    device=instance.device,
                    backend=instance.backend,
                    precision=instance.precision,
                    simulated=instance.simulated,
                    batch_seconds={cost.batch_size: cost.microseconds / _MICROSECONDS for cost in instance.batch_costs},
                )
                for instance in message.instances
            ),
        )
