"""The dataplane: classify images with a model before a deadline. Every protocol goes through here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.dataplane.models import ModelInfo, ModelTable, ServedModel
from repserve_server.dataplane.scores import ImageScores
from repserve_server.errors import DeadlineError, DrainingError, ImageError, InvalidRequestError
from repserve_server.imaging.model_input import as_model_input

if TYPE_CHECKING:
    from repserve_server.dataplane.decoding import DecodePool
    from repserve_server.dataplane.metrics import FrontendMetrics


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to a request: the version that gave it, one row of scores an image, and the seconds of decoding."""

    model: ModelInfo
    images: list[ImageScores]
    decode_seconds: float


class RequestsInFlight:
    """Counts requests, each a ``with`` block, so that a drain knows when the last one is answered."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self) -> None:
        """Let no more requests begin, and return when there are none."""
        self.draining.set()
        await self._idle.wait()

    def __enter__(self) -> None:
        if self.draining.is_set():
            raise DrainingError("the server is shutting down; send the request to another one")
        self._count += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()


class Dataplane:
    """Takes images in and gives scores out."""

    def __init__(
        self,
        models: ModelTable,
        decoding: DecodePool,
        metrics: FrontendMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models = models
        self._decoding = decoding
        self._metrics = metrics
        self._clock = clock
        self._requests = RequestsInFlight()

    @property
    def draining(self) -> asyncio.Event:
        """Set when no new requests are taken any more."""
        return self._requests.draining

    async def classify_encoded(self, data: bytes, model: str, version: str, deadline: float) -> Scored:
        """Classify one encoded image.

        Args:
            data: JPEG, PNG, WebP or BMP.
            model: name of the model; empty for the only one.
            version: its version; empty for the newest.
            deadline: when the answer must be there, in seconds of ``time.monotonic``.

        Raises:
            RepServeError: whatever kept the image from being classified.
        """
        with self._requests:
            served = self.models.find(model, version)
            if deadline <= self._clock():
                raise DeadlineError("the deadline passed before the image was decoded")
            queue = served.queue
            slots = queue.admit(1)
            try:
                seconds = await self._decoding.decode(
                    data,
                    served.info.preprocessing,
                    queue.area.images[slots[0]],
                    lambda: queue.give_back(slots),
                    deadline,
                )
            except ImageError as error:
                self._metrics.count_rejected_image(error.kind)
                raise
            self._metrics.decode_seconds.observe(seconds)
            return Scored(served.info, await self._run(served, slots, deadline), seconds)

    async def classify_pixels(self, data: bytes, images: int, model: str, version: str, deadline: float) -> Scored:
        """Classify images that are already resized and cropped.

        Args:
            data: uint8, row-major [images, crop, crop, 3], RGB.
            images: how many there are, from 1 to the model's largest batch.
            model: as for ``classify_encoded``.
            version: as for ``classify_encoded``.
            deadline: as for ``classify_encoded``.

        Raises:
            RepServeError: whatever kept the images from being classified.
        """
        with self._requests:
            served = self.models.find(model, version)
            _check_pixels(data, images, served.info)
            slots = served.queue.admit(images)
            area, preprocessing = served.queue.area.images, served.info.preprocessing
            pixels = np.frombuffer(data, np.uint8).reshape(images, *preprocessing.shape)
            rows = as_model_input(pixels, preprocessing, area.dtype)
            if slots[-1] - slots[0] == images - 1:
                area[slots[0] : slots[0] + images] = rows
            else:
                area[slots] = rows
            return Scored(served.info, await self._run(served, slots, deadline), 0.0)

    async def drain(self) -> None:
        """Take no more requests, and return when the last one that was taken is answered."""
        await self._requests.drain()

    async def _run(self, served: ServedModel, slots: list[int], deadline: float) -> list[ImageScores]:
        images = await served.queue.run(slots, deadline)
        self._metrics.images.inc(len(images))
        return images


def _check_pixels(data: bytes, images: int, info: ModelInfo) -> None:
    if not 1 <= images <= info.max_batch:
        raise InvalidRequestError(
            f"pixels.count is {images}; model {info.name!r} takes 1 to {info.max_batch} images a request"
        )
    crop, expected = info.preprocessing.crop, images * info.preprocessing.image_bytes
    if len(data) != expected:
        raise InvalidRequestError(
            f"pixels.data has {len(data)} bytes; {images} x {crop} x {crop} x 3 uint8 values are {expected}"
        )
