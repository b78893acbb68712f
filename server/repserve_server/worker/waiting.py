"""The images of all frontends that wait for a worker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from repserve_server.channel.messages import Cancellation, Submission
from repserve_server.worker.service_order import ServiceOrder
from repserve_server.worker.sources import Source, WaitingImage


class WaitingImages:
    """The images that wait for the device, in the order of service."""

    def __init__(self) -> None:
        self._images = ServiceOrder()
        self._earliest = math.inf

    def __len__(self) -> int:
        return len(self._images)

    def add(self, source: Source, submissions: Iterable[Submission]) -> None:
        """Add what a frontend submitted."""
        images = [WaitingImage(source, *submission) for submission in submissions]
        self._images.add(images)
        self._earliest = min(self._earliest, *(image.deadline for image in images))

    def deadlines(self) -> list[float]:
        """Return the deadline of each, in order."""
        return [image.deadline for image in self._images]

    def first_alone(self) -> int | None:
        """Return the position of the first image that must run in a batch of its own, if there is one."""
        return 0 if self._images.first_is_alone else None

    def take(self, positions: Sequence[int]) -> list[WaitingImage]:
        """Remove and return the images at these positions."""
        return self._images.take(positions)

    def put_back_alone(self, images: Sequence[WaitingImage]) -> None:
        """Put images back before all others, each for a batch of its own."""
        self._images.add_alone(images)
        self._earliest = min(self._earliest, *(image.deadline for image in images))

    def take_expired(self, now: float) -> list[WaitingImage]:
        """Remove and return the images whose deadline has passed."""
        if now < self._earliest:
            return []
        expired = self._images.drop(lambda image: image.deadline <= now)
        self._earliest = min(self.deadlines(), default=math.inf)
        return expired

    def take_cancelled(self, source: Source, cancellations: Iterable[Cancellation]) -> list[WaitingImage]:
        """Remove and return the images that a frontend cancelled; those that already run are not here."""
        unwanted = {tuple(entry) for entry in cancellations}
        return self._images.drop(lambda image: image.source is source and (image.slot, image.generation) in unwanted)

    def drop_source(self, source: Source) -> int:
        """Drop the images of a frontend that is gone; return how many there were."""
        return len(self._images.drop(lambda image: image.source is source))
