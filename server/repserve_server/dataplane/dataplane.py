"""The dataplane: classify images with a model before a deadline. Every protocol goes through here."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from repserve_server.channel.model_info import ModelInfo
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.models import ModelTable, ServedModel
from repserve_server.dataplane.scores import ImageScores
from repserve_server.errors import DeadlineError, DrainingError, ImageError, InvalidRequestError
from repserve_server.imaging.model_input import as_model_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_server.dataplane.decoding import DecodePool
    from repserve_server.dataplane.queue import ModelQueue

Buffer: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to a request: the version that gave it, one row of scores an image, and the seconds of decoding."""

    model: ModelInfo
    images: list[ImageScores]
    decode_seconds: float = 0.0


class RequestsInFlight:
    """Counts requests, each a ``with`` block, so that a drain knows when the last one is answered."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self) -> None:
        """Let no more requests begin, and return when there are none."""
        self.draining.set()
        await self._idle.wait()

    def __enter__(self) -> None:
        if self.draining.is_set():
            raise DrainingError("the server is shutting down; send the request to another one")
        self.count += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        if self.count == 0:
            self._idle.set()


class Dataplane:
    """Takes images in and gives scores out."""

    def __init__(
        self,
        models: ModelTable,
        decoding: DecodePool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models = models
        self._decoding = decoding
        self._clock = clock
        self._requests = RequestsInFlight()

    @property
    def draining(self) -> asyncio.Event:
        """Set when no new requests are taken any more."""
        return self._requests.draining

    async def classify_encoded(self, images: Sequence[bytes], served: ServedModel, call: Call) -> Scored:
        """Classify encoded images.

        Args:
            images: JPEG, PNG, WebP or BMP files, at least one.
            served: the model version to run.
            call: by when, for whom, how urgent.

        Raises:
            RepServeError: an image cannot be classified; then no image of the request is answered.
        """
        with self._requests:
            _check_count(len(images))
            self._check_deadline(call)
            slots = served.queue.admit(len(images), call, self._decoding.backlog_seconds)
            seconds = await self._decode_all(images, served, slots, call)
            return Scored(served.info, await served.queue.run(slots, call), seconds)

    async def classify_pixels(self, data: Buffer, images: int, served: ServedModel, call: Call) -> Scored:
        """Classify images that are already resized and cropped.

        Args:
            data: uint8, row-major [images, crop, crop, 3], RGB.
            images: how many there are, at least one.
            served: as for ``classify_encoded``.
            call: as for ``classify_encoded``.

        Raises:
            RepServeError: the images cannot be classified.
        """
        return await self._classify_rows(data, images, served, call, pixels=True)

    async def classify_tensor(self, data: Buffer, images: int, served: ServedModel, call: Call) -> Scored:
        """Classify images that are already what the model's own float32 input takes.

        Args:
            data: float32, row-major [images, *input], with the shape in ``ModelInfo.input``.
            images: how many there are, at least one.
            served: as for ``classify_encoded``.
            call: as for ``classify_encoded``.

        Raises:
            RepServeError: the images cannot be classified.
        """
        return await self._classify_rows(data, images, served, call, pixels=False)

    @property
    def requests_in_flight(self) -> int:
        """Requests that were taken and are not answered."""
        return self._requests.count

    async def drain(self) -> None:
        """Take no more requests, and return when the last one that was taken is answered."""
        await self._requests.drain()

    async def _classify_rows(
        self, data: Buffer, images: int, served: ServedModel, call: Call, *, pixels: bool
    ) -> Scored:
        with self._requests:
            area, preprocessing = served.queue.area, served.info.preprocessing
            if pixels:
                rows = _as_array(data, images, preprocessing.shape, "uint8")
            else:
                _check_takes_tensors(served)
                rows = _as_array(data, images, area.layout.shape, "float32")
            self._check_deadline(call)
            slots = served.queue.admit(images, call)
            # Normalised only now: what is refused costs no work.
            _write(area.images, slots, as_model_input(rows, preprocessing, served.dtype) if pixels else rows)
            return Scored(served.info, await served.queue.run(slots, call))

    def _check_deadline(self, call: Call) -> None:
        if call.deadline <= self._clock():
            raise DeadlineError("the deadline passed before the request was admitted")

    async def _decode_all(self, images: Sequence[bytes], served: ServedModel, slots: list[int], call: Call) -> float:
        """Decode each image into its slot; returns the seconds that took, added up over the threads.

        If one fails, or the call is cancelled, every slot is given back once no thread writes to it any more.
        """
        queue = served.queue
        work = [
            self._decoding.decode(
                image,
                served.info.preprocessing,
                queue.area.images[slot],
                partial(queue.give_back, (slot,)),
                call.deadline,
            )
            for image, slot in zip(images, slots, strict=True)
        ]
        try:
            seconds = [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
        except BaseException as error:
            self._end_decoding(queue, work, slots)
            if not isinstance(error, ImageError):
                raise
            queue.metrics.rejected_images[error.kind].inc()
            raise _name_image(error, work) from error
        for one in seconds:
            queue.metrics.decode_seconds.observe(one)
        return sum(seconds)

    def _end_decoding(self, queue: ModelQueue, work: Sequence[asyncio.Future[float]], slots: Sequence[int]) -> None:
        """Stop the decoding of a request that has failed; slots that are decoded already are given back here."""
        for future, slot in zip(work, slots, strict=True):
            if future.done() and not future.cancelled() and future.exception() is None:
                queue.give_back((slot,))
            future.cancel()


def _check_takes_tensors(served: ServedModel) -> None:
    if served.dtype != np.float32:
        raise InvalidRequestError(
            f"model {served.info.name!r} takes uint8 pixels and normalises them itself; send pixels"
        )


def _name_image(error: ImageError, work: Sequence[asyncio.Future[float]]) -> ImageError:
    """Add to the error of one image of several which image it was."""
    if len(work) == 1:
        return error
    row = next(
        i for i, future in enumerate(work) if future.done() and not future.cancelled() and future.exception() is error
    )
    return ImageError(f"image {row} of {len(work)}, counted from 0: {error.message}", kind=error.kind)


def _check_count(images: int) -> None:
    if images < 1:
        raise InvalidRequestError("the request has no image; send at least one")


def _as_array(data: Buffer, images: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    _check_count(images)
    got = memoryview(data).nbytes
    values = " x ".join(str(side) for side in (images, *shape))
    expected = images * math.prod(shape) * np.dtype(dtype).itemsize
    if got != expected:
        raise InvalidRequestError(f"the images have {got} bytes; expected {expected} ({values} {dtype} values)")
    return np.frombuffer(data, dtype).reshape(images, *shape)


def _write(area: NDArray[np.generic], slots: list[int], rows: NDArray[np.generic]) -> None:
    """Write images into their slots: one copy where these lie side by side."""
    if slots[-1] - slots[0] == len(slots) - 1:
        area[slots[0] : slots[0] + len(slots)] = rows
    else:
        area[slots] = rows
