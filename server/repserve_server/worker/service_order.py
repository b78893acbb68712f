"""The order in which waiting images are served: urgent ones first but not exclusively, and clients in turns."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator

from repserve_server.channel.messages import Priority
from repserve_server.worker.sources import WaitingImage

URGENT_IN_A_ROW = 7
"""After so many urgent images another one runs, if any waits: these get at least an eighth of the device."""
_CLIENTS_KEPT = 4096


def _tag(image: WaitingImage) -> float:
    return image.tag


class _Level:
    """Images of one priority, clients in turns (start-time fair queueing, Goyal, Vin and Cheng 1996).

    A client's next image has a tag of one more than its last, and of no less than the image that was served last. The
    lowest tag is served first: a client with one image is not behind another's four hundred.
    """

    def __init__(self) -> None:
        self.images: list[WaitingImage] = []
        self._now = 0.0
        self._last: dict[int, float] = {}

    def add(self, image: WaitingImage) -> None:
        tag = self._last.get(image.client)
        image.tag = self._now if tag is None else max(self._now, tag + 1.0)
        self._last[image.client] = image.tag
        if not self.images or self.images[-1].tag <= image.tag:
            self.images.append(image)
        else:
            insort(self.images, image, key=_tag)
        if len(self._last) > _CLIENTS_KEPT + len(self.images):
            # A client whose last turn is over starts anew all the same.
            self._last = {client: tag for client, tag in self._last.items() if tag > self._now}

    def remove(self, taken: set[int]) -> None:
        """Remove images, given by ``id``, that are being served."""
        self._now = max(self._now, *(image.tag for image in self.images if id(image) in taken))
        self.images = [image for image in self.images if id(image) not in taken]


class ServiceOrder:
    """The images that wait for the device, in the order of service.

    Those that must run alone, since a batch with them failed, come before all others.
    """

    def __init__(self) -> None:
        self._alone: list[WaitingImage] = []
        self._levels = {priority: _Level() for priority in (Priority.HIGH, Priority.NORMAL)}
        self._in_a_row = 0
        self._order: list[WaitingImage] | None = None

    def __len__(self) -> int:
        return len(self._alone) + sum(len(level.images) for level in self._levels.values())

    def __iter__(self) -> Iterator[WaitingImage]:
        return iter(self.order)

    @property
    def order(self) -> list[WaitingImage]:
        """All images, in order; must not be changed."""
        if self._order is None:
            merged = self._merge()
            self._order = [*self._alone, *merged] if self._alone else merged
        return self._order

    @property
    def first_is_alone(self) -> bool:
        """Whether the first image must run in a batch of its own."""
        return bool(self._alone)

    def add(self, images: Iterable[WaitingImage]) -> None:
        """Insert images at their places."""
        for image in images:
            if image.alone:
                self._alone.append(image)
            else:
                self._levels[image.priority].add(image)
        self._order = None

    def add_alone(self, images: Iterable[WaitingImage]) -> None:
        """Put images before all others, each for a batch of its own."""
        images = list(images)
        for image in images:
            image.alone = True
        self._alone = [*images, *self._alone]
        self._order = None

    def take(self, positions: Iterable[int]) -> list[WaitingImage]:
        """Remove and return the images at these positions, to serve them."""
        order = self.order
        images = [order[position] for position in positions]
        for image in images:
            if image.priority is Priority.HIGH:
                self._in_a_row += 1
            else:
                self._in_a_row = 0
        taken = {id(image) for image in images}
        if self._alone:
            self._alone = [image for image in self._alone if id(image) not in taken]
        for priority, level in self._levels.items():
            if any(image.priority is priority and not image.alone for image in images):
                level.remove(taken)
        self._order = None
        return images

    def drop(self, unwanted: Callable[[WaitingImage], bool]) -> list[WaitingImage]:
        """Remove and return images that will not be served."""
        dropped = [image for image in self.order if unwanted(image)]
        if dropped:
            gone = {id(image) for image in dropped}
            self._alone = [image for image in self._alone if id(image) not in gone]
            for level in self._levels.values():
                level.images = [image for image in level.images if id(image) not in gone]
            self._order = None
        return dropped

    def _merge(self) -> list[WaitingImage]:
        urgent, others = (self._levels[priority].images for priority in (Priority.HIGH, Priority.NORMAL))
        if not urgent or not others:
            return urgent or others
        merged: list[WaitingImage] = []
        first = max(0, URGENT_IN_A_ROW - self._in_a_row)
        merged += urgent[:first]
        rest = urgent[first:]
        for place, other in enumerate(others):
            start = place * URGENT_IN_A_ROW
            merged += [other, *rest[start : start + URGENT_IN_A_ROW]]
        return merged + rest[len(others) * URGENT_IN_A_ROW :]
