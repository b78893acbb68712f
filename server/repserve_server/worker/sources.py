"""Where a worker's images come from: one source a frontend, and the images of all of them that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.channel.messages import Cancellation, Submission

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_server.channel.link import Link
    from repserve_server.channel.slots import SlotArea


@dataclass(eq=False)
class Source:
    """A frontend as a worker sees it: its slots and the link that answers go back on."""

    frontend: str
    area: SlotArea
    link: Link


@dataclass(eq=False)
class WaitingImage:
    """A submitted image."""

    source: Source
    slot: int
    generation: int
    deadline: float
    alone: bool


class WaitingImages:
    """The images that wait for the device, in the order of their arrival."""

    def __init__(self) -> None:
        self._images: list[WaitingImage] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(self, source: Source, submissions: Iterable[Submission]) -> None:
        """Append what a frontend submitted."""
        self._images += [WaitingImage(source, *submission) for submission in submissions]

    def deadlines(self) -> list[float]:
        """The deadline of each, in order."""
        return [image.deadline for image in self._images]

    def first_alone(self) -> int | None:
        """Position of the first image that must run in a batch of its own, if there is one."""
        return next((i for i, image in enumerate(self._images) if image.alone), None)

    def take(self, positions: Sequence[int]) -> list[WaitingImage]:
        """Remove and return the images at these positions."""
        chosen = set(positions)
        taken = [self._images[i] for i in positions]
        self._images = [image for i, image in enumerate(self._images) if i not in chosen]
        return taken

    def put_back_alone(self, images: Sequence[WaitingImage]) -> None:
        """Have images that were taken wait again, before all others, each for a batch of its own."""
        for image in images:
            image.alone = True
        self._images = [*images, *self._images]

    def take_expired(self, now: float) -> list[WaitingImage]:
        """Remove and return the images whose deadline has passed."""
        expired = [image for image in self._images if image.deadline <= now]
        if expired:
            self._images = [image for image in self._images if image.deadline > now]
        return expired

    def take_cancelled(self, source: Source, cancellations: Iterable[Cancellation]) -> list[WaitingImage]:
        """Remove and return the images that a frontend no longer wants; one that runs already is not here."""
        unwanted = {tuple(entry) for entry in cancellations}
        cancelled = [
            i
            for i, image in enumerate(self._images)
            if image.source is source and (image.slot, image.generation) in unwanted
        ]
        return self.take(cancelled)

    def drop_source(self, source: Source) -> None:
        """Forget the images of a frontend that is gone."""
        self._images = [image for image in self._images if image.source is not source]


class BatchAssembler:
    """Turns chosen images into one array for the backend, without a copy where they fill it and lie side by side."""

    def __init__(self, shape: tuple[int, ...], dtype: str, largest: int) -> None:
        self._staging: NDArray[np.generic] = np.zeros((largest, *shape), dtype)
        self._filled = 0

    def assemble(self, images: Sequence[WaitingImage], size: int) -> NDArray[np.generic]:
        """The batch [size, ...] with ``images`` in its first rows and zeros in the others.

        No other image's pixels are used as padding: they could belong to one that crashes the device.
        """
        source, first = images[0].source, images[0].slot
        if len(images) == size and all(
            image.source is source and image.slot == first + i for i, image in enumerate(images)
        ):
            return source.area.images[first : first + size]
        for row, image in enumerate(images):
            self._staging[row] = image.source.area.images[image.slot]
        self._staging[len(images) : max(size, self._filled)] = 0
        self._filled = len(images)
        return self._staging[:size]
