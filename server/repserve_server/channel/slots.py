"""Slots: shared memory that holds one image and its scores each, written by a frontend and read by a worker.

An area is a memfd: it has no name in the file system, so nothing is left behind however its processes end.
A frontend owns its areas, one for each model version; the workers of that version map the same pages.
"""

from __future__ import annotations

import heapq
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE = mmap.PAGESIZE


def _whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


@dataclass(frozen=True)
class SlotLayout:
    """Where things lie in an area: both sides compute the same offsets from these numbers.

    ``shape`` and ``dtype`` are those of one image, ``classes`` is the length of one row of scores.
    """

    slots: int
    shape: tuple[int, ...]
    dtype: str
    classes: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def scores_offset(self) -> int:
        """Where the float32 scores [slots, classes] begin; the running marks [slots] lie before them."""
        return _whole_pages(4 * self.slots)

    @property
    def images_offset(self) -> int:
        """Where the images begin."""
        return self.scores_offset + _whole_pages(4 * self.slots * self.classes)

    @property
    def size(self) -> int:
        """Bytes of the whole area. Pages that were never written take no memory."""
        return self.images_offset + _whole_pages(self.slots * self.image_bytes)


class SlotArea:
    """One mapping of a slot area.

    Attributes:
        images: [slots, *shape], the preprocessed images.
        scores: float32 [slots, classes], the model's answers.
        running: uint32 [slots]; a worker writes the generation of a slot here just before it runs it and 0 when it
            is done, so that the frontend knows after a crash which images were on the device.
    """

    def __init__(self, layout: SlotLayout, descriptor: int) -> None:
        self.layout = layout
        self._memory = mmap.mmap(descriptor, layout.size)
        self.running: NDArray[np.uint32] = np.frombuffer(self._memory, np.uint32, layout.slots, 0)
        self.scores: NDArray[np.float32] = np.frombuffer(
            self._memory, np.float32, layout.slots * layout.classes, layout.scores_offset
        ).reshape(layout.slots, layout.classes)
        self.images: NDArray[np.generic] = np.frombuffer(
            self._memory, layout.dtype, layout.slots * int(np.prod(layout.shape)), layout.images_offset
        ).reshape(layout.slots, *layout.shape)


def create_area_descriptor(layout: SlotLayout, name: str) -> int:
    """Make the memory of an area and return its file descriptor; ``name`` shows in /proc for people."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, layout.size)
    return descriptor


class FreeSlots:
    """The free slots of an area, lowest first.

    Lowest first keeps the slots in use side by side, so most batches are one run of memory, and touches no more
    pages than the load needs.
    """

    def __init__(self, count: int) -> None:
        self._heap = list(range(count))

    def __len__(self) -> int:
        return len(self._heap)

    def take(self, count: int) -> list[int] | None:
        """Take ``count`` slots, or none at all (None) when fewer are free."""
        if count > len(self._heap):
            return None
        return [heapq.heappop(self._heap) for _ in range(count)]

    def give_back(self, slot: int) -> None:
        """Return a slot that no process writes to any more."""
        heapq.heappush(self._heap, slot)
