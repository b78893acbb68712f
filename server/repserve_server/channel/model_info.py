"""A model version as the supervisor describes it to the frontends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from repserve_server.channel.message import Text
from repserve_server.imaging.preprocessing import Preprocessing

ModelState = Literal["absent", "unloaded", "loading", "ready", "restarting", "failed"]
Output = Literal["logits", "probabilities"]
"""What a model's scores are."""


@dataclass(frozen=True)
class InstanceInfo:
    """A worker that runs a model."""

    device: str
    backend: str
    precision: str
    simulated: bool
    batch_seconds: dict[int, float]
    load_seconds: float = 0.0


@dataclass(frozen=True)
class InputInfo:
    """What one image is when it reaches the model: the input's name, the dtype and shape of a slot."""

    name: str = ""
    dtype: str = "uint8"
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """A version of a model; version is empty when there is none.

    ``revision`` tells apart what was loaded at different times: a version whose files change is loaded anew under the
    same number. A later load has a larger revision. ``offered`` are the inputs that KServe v2 clients may send.
    ``labels`` travel apart, once, when a revision's queue is opened.
    """

    name: str
    version: str
    state: ModelState
    reason: Text
    caution: Text = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    max_batch_size: int = 0
    classes: int = 0
    instances: tuple[InstanceInfo, ...] = ()
    revision: int = 0
    input: InputInfo = field(default_factory=InputInfo)
    output_name: str = ""
    offered: tuple[str, ...] = ("IMAGE", "INPUT")

    @property
    def ready(self) -> bool:
        """Whether it answers now."""
        return self.state == "ready"
