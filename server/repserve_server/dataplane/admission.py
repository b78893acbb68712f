"""Admission: which requests get slots of a queue, so that no client takes them all and no deadline is bound to pass."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from repserve_server.channel.messages import Priority
from repserve_server.channel.slots import FreeSlots
from repserve_server.errors import InvalidRequestError, QueueFullError, UnmeetableDeadlineError

if TYPE_CHECKING:
    from repserve_server.dataplane.call import Call

RESERVED_PART = 8
"""The last eighth of the slots is kept."""
_LEAST_SLOTS_TO_RESERVE = 16
_NEWEST_WEIGHT = 0.1
"""Of a measurement in the running mean."""
_LEAST_RETRY_SECONDS = 0.001
_NOBODY = ("", Priority.NORMAL)


class Admission:
    """Hands out slots, by what each client holds and by what waits.

    The last eighth of the slots is for urgent requests, and for clients that hold no more than they leave free there (a
    dynamic threshold, Choudhury and Hahn 1998). So the next client finds room, however much the others send.

    Args:
        capacity: slots of the queue.
        image_seconds: the device's time for an image in a batch of the best size, as measured at warm-up; kept up to
            date by ``measure``.
    """

    def __init__(self, capacity: int, image_seconds: float) -> None:
        self.capacity = capacity
        self._free = FreeSlots(capacity)
        self._reserved = capacity // RESERVED_PART if capacity >= _LEAST_SLOTS_TO_RESERVE else 0
        self.image_seconds = image_seconds
        self._run_seconds = 0.0
        self._holders: list[tuple[str, Priority]] = [_NOBODY] * capacity
        self._held: dict[str, int] = {}
        self._high = 0
        self._emptied: asyncio.Event | None = None

    @property
    def occupied(self) -> int:
        """Slots that are held."""
        return self.capacity - len(self._free)

    def take(self, images: int, call: Call, workers: int) -> list[int]:
        """Take slots for the images of a request.

        Raises:
            InvalidRequestError: there are more images than slots.
            QueueFullError: there is no room for them, or none for this client; ``retry_after`` is when to try again.
        """
        if images > self.capacity:
            raise InvalidRequestError(
                f"the request has {images} images and the queue holds {self.capacity}; send fewer at once"
            )
        refusal = self._find_refusal(images, call)
        slots = None if refusal else self._free.take(images)
        if slots is None:
            wait = max(self.occupied * self.image_seconds / max(1, workers), _LEAST_RETRY_SECONDS)
            raise QueueFullError(f"{refusal}; try again in {wait * 1000:.0f} ms", retry_after=wait)
        for slot in slots:
            self._holders[slot] = (call.client, call.priority)
        self._held[call.client] = self._held.get(call.client, 0) + images
        self._high += images * (call.priority is Priority.HIGH)
        return slots

    def give_back(self, slot: int) -> None:
        """Return a slot that no process writes to any more."""
        client, priority = self._holders[slot]
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
        self._high -= priority is Priority.HIGH
        self._free.give_back(slot)
        if self._emptied is not None and not self.occupied:
            self._emptied.set()

    async def empty(self) -> None:
        """Return when no slot is held; none must be taken any more."""
        if self.occupied:
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()

    def check_deadline(self, call: Call, now: float, backlog: int, workers: int, decode_seconds: float = 0.0) -> None:
        """Refuse what cannot be answered in time, going by what waits and what it was measured to cost.

        Args:
            call: whose deadline it is.
            now: the present on the deadline's clock.
            backlog: images that wait for the workers or run there, those of other frontends included.
            workers: how many there are.
            decode_seconds: how long images will be decoded before this one's turn.

        Raises:
            UnmeetableDeadlineError: ``retry_after`` is when the queue will be shorter. Never when nothing waits.
        """
        if not backlog and not decode_seconds:
            return
        wait = decode_seconds + self._ahead(call, backlog) * self.image_seconds / max(1, workers) + self._run_seconds
        late = now + wait - call.deadline
        if late > 0:
            raise UnmeetableDeadlineError(
                f"the answer is expected in {wait * 1000:.0f} ms, {late * 1000:.0f} ms after the deadline; allow more "
                "time or send less",
                retry_after=max(late, _LEAST_RETRY_SECONDS),
            )

    def measure(self, images: int, seconds: float, *, full: bool) -> None:
        """Update the means after a run on the device; only ``full`` batches count for the time of an image."""
        self._run_seconds += _NEWEST_WEIGHT * (seconds - self._run_seconds) if self._run_seconds else seconds
        if full:
            self.image_seconds += _NEWEST_WEIGHT * (seconds / images - self.image_seconds)

    def _ahead(self, call: Call, backlog: int) -> int:
        """How many images are served before those of this call, at most: urgent ones first, clients in turns."""
        if call.priority is Priority.HIGH:
            return min(backlog, self._high)
        clients = len(self._held) + (call.client not in self._held)
        return min(backlog, self._high + (self._held.get(call.client, 0) + 1) * clients)

    def _find_refusal(self, images: int, call: Call) -> str:
        """Why a request gets no slots now; empty when it does."""
        left = len(self._free) - images
        if left < 0:
            return f"the queue holds {self.occupied} of {self.capacity} images and has no room for {images} more"
        if left >= self._reserved or call.priority is Priority.HIGH or not self.occupied:
            return ""
        held = self._held.get(call.client, 0)
        if held + images <= left:
            return ""
        return (
            f"the queue holds {self.occupied} of {self.capacity} images, {held} of them this client's; of the last "
            f"{self._reserved} places none is for a client that would hold more than it leaves free"
        )
