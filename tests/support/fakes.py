"""Stand-ins that the server's unit tests share: a clock that is moved by hand, a backend, slots and links."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.backends.base import TensorSpec
from repserve_server.channel.link import Link, link_pair
from repserve_server.channel.model_info import InputInfo
from repserve_server.channel.slots import SlotArea, SlotLayout, create_area_descriptor
from repserve_server.channel.worker_messages import ModelInterface, WorkerReady
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SHAPE = (2, 2, 3)
CLASSES = 4


class FakeClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeBackend:
    """A backend whose scores are sums of an image's bytes; ``on_run`` may look at a batch, or raise."""

    name = "fake"
    precision = "f32"
    simulated = False
    any_size = False
    output_name = "scores"

    def __init__(self, batch_sizes: tuple[int, ...] = (1, 16)) -> None:
        self.input = TensorSpec("image", "uint8", IMAGE_SHAPE, "NHWC")
        self.classes = CLASSES
        self.batch_sizes = batch_sizes
        self.batches: list[NDArray[np.generic]] = []
        self.on_run: Callable[[NDArray[np.generic]], None] = lambda _: None

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        self.batches.append(batch)
        self.on_run(batch)
        return np.stack([scores_of(image) for image in batch])

    def figures(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.batches.clear()


def scores_of(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """What the fake backend answers for an image: different for images of different content."""
    total = float(image.astype(np.float64).sum())
    return np.array([total, -total, 1.0, 0.0], np.float32)


def slot_layout(slots: int, dtype: str = "uint8") -> SlotLayout:
    """Slots of pixels, or of normalised float32 images, channels first."""
    shape = IMAGE_SHAPE if dtype == "uint8" else (IMAGE_SHAPE[2], *IMAGE_SHAPE[:2])
    return SlotLayout(slots, shape, dtype, CLASSES)


def map_area(layout: SlotLayout, mappings: int = 1) -> list[SlotArea]:
    """Several mappings of one new area, as its frontend and its workers have them."""
    descriptor = create_area_descriptor(layout, "test")
    try:
        return [SlotArea(layout, descriptor) for _ in range(mappings)]
    finally:
        os.close(descriptor)


def connected_links() -> tuple[Link, Link]:
    """Two ends that are closed, unless a test closes them, when nothing refers to them any more."""
    first, second = (Link(end) for end in link_pair())
    for link in (first, second):
        weakref.finalize(link, link.socket.close)
    return first, second


READY = WorkerReady(
    interface=ModelInterface(
        input=InputInfo("image", "uint8", (2, 2, 3)),
        output_name="scores",
        classes=4,
        preprocessing=Preprocessing(resize=2, crop=2),
    ),
    backend="fake",
    precision="f32",
    simulated=False,
    batch_seconds={1: 0.1},
    best_image_seconds=0.1,
)
"""What a worker says when its model is loaded."""
