"""The frontends that a worker serves, and how their images become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repserve_server.channel.link import Link
from repserve_server.channel.messages import Priority
from repserve_server.channel.slots import SlotArea


@dataclass(eq=False)
class Source:
    """A frontend as a worker sees it: its slots and the link that answers go back on."""

    frontend: str
    area: SlotArea
    link: Link


@dataclass(eq=False)
class WaitingImage:
    """A submitted image.

    ``tag`` is its turn among the images of its priority: see ``ServiceOrder``.
    """

    source: Source
    slot: int
    generation: int
    deadline: float
    alone: bool
    priority: Priority
    client: int
    tag: float = 0.0


class BatchAssembler:
    """Turns chosen images into one array for the backend, without a copy where they fill it and lie side by side."""

    def __init__(self, shape: tuple[int, ...], dtype: str, largest: int) -> None:
        self._staging: NDArray[np.generic] = np.zeros((largest, *shape), dtype)
        self._filled = 0

    def assemble(self, images: Sequence[WaitingImage], size: int) -> NDArray[np.generic]:
        """Make a batch [size, ...] with ``images`` in its first rows and zeros in the others.

        Other images' pixels are never used as padding: they could belong to one that crashes the device.
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
