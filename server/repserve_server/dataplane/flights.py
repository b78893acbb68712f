"""Flights: images between their admission to a queue and their answer."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from repserve_server.channel.link import Link
from repserve_server.channel.messages import Cancellation, Submission
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.scores import ImageScores
from repserve_server.errors import RepServeError

CRASHES_ALLOWED = 1
"""An image that was on the device at more worker crashes than this is not tried again."""


class PendingRequest:
    """A request whose images are in flight; its future gives one ImageScores an image, in order."""

    __slots__ = ("_missing", "_results", "client", "deadline", "future", "priority", "submitted")

    def __init__(self, images: int, call: Call, submitted: float, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[list[ImageScores]] = loop.create_future()
        self.deadline = call.deadline
        self.priority = call.priority
        self.client = zlib.crc32(call.client.encode())
        self.submitted = submitted
        self._results: list[ImageScores | None] = [None] * images
        self._missing = images

    def succeed(self, row: int, scores: ImageScores) -> None:
        """Take the scores of one image; the last one completes the request."""
        self._results[row] = scores
        self._missing -= 1
        if self._missing == 0 and not self.future.done():
            self.future.set_result([scores for scores in self._results if scores is not None])

    def fail(self, error: RepServeError) -> None:
        """End the request; the first error counts."""
        if not self.future.done():
            self.future.set_exception(error)


class WorkerLink:
    """A worker as a frontend sees it: its link, how many images it has, and what will be sent in this turn.

    ``waiting`` is how many images, from all frontends, waited there at ``reported_at`` as the worker reported it.
    """

    def __init__(self, worker: str, link: Link) -> None:
        self.worker = worker
        self.link = link
        self.in_flight = 0
        self.waiting = 0
        self.reported_at = 0.0
        self.submissions: list[Submission] = []
        self.cancellations: list[Cancellation] = []
        self.connected = True

    def backlog(self, now: float, image_seconds: float) -> int:
        """Estimate its images from all frontends: those it reported less what it has run since, and at least ours."""
        left = self.waiting - int((now - self.reported_at) / image_seconds) if self.waiting else 0
        return max(self.in_flight, left)


class Flight:
    """One image in a slot. ``worker`` is None while no worker has it."""

    __slots__ = ("alone", "crashes", "generation", "request", "row", "slot", "worker")

    def __init__(self, slot: int, generation: int, request: PendingRequest, row: int) -> None:
        self.slot = slot
        self.generation = generation
        self.request = request
        self.row = row
        self.worker: WorkerLink | None = None
        self.crashes = 0
        self.alone = False


class Flights:
    """The images in flight of one slot area, by slot. Generations tell two uses of a slot apart."""

    def __init__(self, slots: int) -> None:
        self._by_slot: list[Flight | None] = [None] * slots
        self._generations = [0] * slots
        self.count = 0

    def begin(self, slot: int, request: PendingRequest, row: int) -> Flight:
        """Start a flight in a slot that was taken for it."""
        # 0 means "not running" in the slot area.
        generation = self._generations[slot] % 0xFFFF_FFFF + 1
        self._generations[slot] = generation
        flight = Flight(slot, generation, request, row)
        self._by_slot[slot] = flight
        self.count += 1
        return flight

    def end(self, slot: int, generation: int) -> Flight | None:
        """End and return the flight that an answer is for; None if it is not under way any more."""
        flight = self._by_slot[slot]
        if flight is None or flight.generation != generation:
            return None
        self._by_slot[slot] = None
        self.count -= 1
        return flight

    def __iter__(self) -> Iterator[Flight]:
        """All flights under way; the caller may end them meanwhile."""
        return iter([flight for flight in self._by_slot if flight is not None])
