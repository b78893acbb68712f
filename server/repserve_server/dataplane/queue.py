"""The queue of one model version in one frontend: its slots, its workers, and the images between them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.messages import (
    MAX_ENTRIES,
    Answer,
    Cancellation,
    CloseReason,
    Outcome,
    Submission,
    pack_cancellations,
    pack_submissions,
    unpack_answer,
)
from repserve_server.channel.slots import SlotArea
from repserve_server.dataplane.admission import Admission
from repserve_server.dataplane.call import Call
from repserve_server.dataplane.flights import CRASHES_ALLOWED, Flight, Flights, PendingRequest, WorkerLink
from repserve_server.dataplane.scores import BatchScores, ImageScores
from repserve_server.errors import DeadlineError, DrainingError, InferenceError, ModelUnavailableError

if TYPE_CHECKING:
    from repserve_server.channel.model_info import Output
    from repserve_server.dataplane.metrics import ModelMetrics

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 0.02
"""How often requests are checked against their deadlines, so an answer that never comes ends its request anyway."""


class ModelQueue:
    """Admits images, hands their slots to the least loaded worker, and completes requests.

    All methods are called from the event loop's thread. ``model`` is the name and version whose queue it is.
    """

    def __init__(
        self,
        model: tuple[str, str],
        area: SlotArea,
        output: Output,
        best_image_seconds: float,
        metrics: ModelMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.area = area
        self._output = output
        self.metrics = metrics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(area.layout.slots, best_image_seconds)
        self._flights = Flights(area.layout.slots)
        self._workers: dict[str, WorkerLink] = {}
        self._unassigned: list[Flight] = []
        self._flush_planned = False
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def capacity(self) -> int:
        """How many images the queue holds at most, from admission to answer."""
        return self.area.layout.slots

    @property
    def occupied(self) -> int:
        """How many images it holds now."""
        return self._admission.occupied

    @property
    def worker_count(self) -> int:
        """Workers that take images now."""
        return sum(worker.connected for worker in self._workers.values())

    @property
    def backlog(self) -> int:
        """Images that wait for the workers or run there, those of other frontends included as far as they are known."""
        now = self._clock()
        return max(self._flights.count, sum(self._backlog(worker, now) for worker in self._workers.values()))

    def admit(self, images: int, call: Call, decode_seconds: float = 0.0) -> list[int]:
        """Take slots for a request's images, to be filled and then passed to ``run`` or ``give_back``.

        Args:
            images: how many there are.
            call: whose they are, and by when the answer must be there.
            decode_seconds: how long other images will be decoded before these.

        Raises:
            QueueFullError: there is no room, or the deadline cannot be met; ``retry_after`` is when to try again.
            InvalidRequestError: there are more images than the queue has slots.
        """
        workers = self.worker_count
        self._admission.check_deadline(call, self._clock(), self.backlog, workers, decode_seconds)
        return self._admission.take(images, call, workers)

    def give_back(self, slots: Sequence[int]) -> None:
        """Return admitted slots that were not run."""
        for slot in slots:
            self._admission.give_back(slot)

    async def empty(self) -> None:
        """Return when the queue holds no image; it must not be admitting any more."""
        await self._admission.empty()

    async def run(self, slots: Sequence[int], call: Call) -> list[ImageScores]:
        """Have the images in these admitted slots run; each slot is given back with its answer.

        Cancelling this call takes images that still wait out of the workers' queues.

        Raises:
            DeadlineError: there is no answer by the call's deadline, a time of the queue's clock.
            InferenceError: the device failed on an image.
        """
        now = self._clock()
        if call.deadline <= now:
            self.give_back(slots)
            raise DeadlineError("the deadline passed before the image reached the queue")
        request = PendingRequest(len(slots), call, now, self._loop)
        flights = [self._flights.begin(slot, request, row) for row, slot in enumerate(slots)]
        for flight in flights:
            self._dispatch(flight)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._end_overdue)
        try:
            return await request.future
        finally:
            future = request.future
            if not future.done() or future.cancelled() or future.exception() is not None:
                self._abandon(flights)

    def attach(self, worker: str, link: Link) -> None:
        """Take a new worker: read its answers and give it images."""
        self._workers[worker] = WorkerLink(worker, link)
        self._loop.add_reader(link.fileno(), self._read, self._workers[worker])
        unassigned, self._unassigned = self._unassigned, []
        for flight in unassigned:
            self._dispatch(flight)

    def detach(self, worker: str, *, crashed: bool) -> None:
        """Drop a worker that has ended and was waited for: its images go to others or wait for the next.

        Images that were on the device when the worker crashed are tried again one by one. An image that was there at
        two crashes is answered with an error, so that it cannot take down one worker after the other.
        """
        gone = self._workers.pop(worker, None)
        if gone is None:
            return
        self._disconnect(gone)
        gone.link.close()
        for flight in self._flights:
            if flight.worker is gone:
                self._reassign(flight, crashed=crashed)

    def give_up(self, reason: str) -> None:
        """Refuse the images that wait for a worker: none is expected any more."""
        for flight in list(self._unassigned):
            flight.request.fail(ModelUnavailableError(reason))

    def close(self) -> None:
        """Forget all workers; requests that are still in flight fail."""
        for flight in self._flights:
            flight.request.fail(DrainingError("the server has shut down"))
        for worker in list(self._workers):
            self.detach(worker, crashed=False)
        if self._sweep is not None:
            self._sweep.cancel()

    def _backlog(self, worker: WorkerLink, now: float) -> int:
        return worker.backlog(now, self._admission.image_seconds)

    def _dispatch(self, flight: Flight) -> None:
        connected = [worker for worker in self._workers.values() if worker.connected]
        if not connected:
            flight.worker = None
            self._unassigned.append(flight)
            return
        worker = connected[0]
        if len(connected) > 1:
            now = self._clock()
            worker = min(connected, key=lambda candidate: self._backlog(candidate, now))
        flight.worker = worker
        worker.in_flight += 1
        request = flight.request
        worker.submissions.append(
            Submission(flight.slot, flight.generation, request.deadline, flight.alone, request.priority, request.client)
        )
        self._plan_flush()

    def _plan_flush(self) -> None:
        """Send at the end of this turn of the loop, so that what became ready together travels together."""
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        self._flush_planned = False
        for worker in list(self._workers.values()):
            if not worker.connected:
                continue
            submissions, worker.submissions = worker.submissions, []
            cancellations, worker.cancellations = worker.cancellations, []
            try:
                for first in range(0, len(submissions), MAX_ENTRIES):
                    worker.link.send(pack_submissions(submissions[first : first + MAX_ENTRIES]))
                for first in range(0, len(cancellations), MAX_ENTRIES):
                    worker.link.send(pack_cancellations(cancellations[first : first + MAX_ENTRIES]))
            except LinkClosedError:
                self._disconnect(worker)
                continue
            if worker.link.has_backlog:
                self._loop.add_writer(worker.link.fileno(), self._write, worker)

    def _write(self, worker: WorkerLink) -> None:
        try:
            worker.link.flush()
        except LinkClosedError:
            self._disconnect(worker)
            return
        if not worker.link.has_backlog:
            self._loop.remove_writer(worker.link.fileno())

    def _read(self, worker: WorkerLink) -> None:
        try:
            messages = worker.link.receive_all()
        except LinkClosedError:
            # Its images move on when the supervisor has seen the process end: until then it might still write.
            self._disconnect(worker)
            return
        for message in messages:
            self._take_answer(worker, unpack_answer(message))

    def _disconnect(self, worker: WorkerLink) -> None:
        if not worker.connected:
            return
        worker.connected = False
        self._loop.remove_reader(worker.link.fileno())
        self._loop.remove_writer(worker.link.fileno())
        try:
            for message in worker.link.receive_all():
                self._take_answer(worker, unpack_answer(message))
        except LinkClosedError:
            pass

    def _take_answer(self, worker: WorkerLink, answer: Answer) -> None:
        ended = [(entry.outcome, self._flights.end(entry.slot, entry.generation)) for entry in answer.slots]
        scored = [flight.slot for outcome, flight in ended if flight is not None and outcome is Outcome.SCORED]
        batch = BatchScores(self.area.scores[scored], self._output)
        worker.waiting, worker.reported_at = answer.waiting, answer.finished
        compute = answer.finished - answer.started
        if scored:
            self._admission.measure(answer.size, compute, full=answer.reason is CloseReason.FULL)
        now = self._clock()
        row = 0
        for outcome, flight in ended:
            if flight is None:
                continue
            if flight.worker is not None:
                flight.worker.in_flight -= 1
            self._admission.give_back(flight.slot)
            request = flight.request
            if outcome is Outcome.SCORED:
                queued = max(0.0, answer.started - request.submitted)
                if now <= request.deadline:
                    request.succeed(flight.row, ImageScores(batch, row, answer.size, queued, compute, answer.finished))
                else:
                    request.fail(DeadlineError("the deadline passed while the image was on the device"))
                self.metrics.queue_seconds.observe(queued)
                row += 1
            elif outcome is Outcome.EXPIRED:
                request.fail(DeadlineError("the deadline passed while the image waited for the device"))
            elif outcome is Outcome.FAILED:
                request.fail(
                    InferenceError("the device failed while it ran this image's batch; the server's log says why")
                )

    def _reassign(self, flight: Flight, *, crashed: bool) -> None:
        flight.worker = None
        if crashed and self.area.running[flight.slot] == flight.generation:
            flight.crashes += 1
            flight.alone = True
        self.area.running[flight.slot] = 0
        if flight.request.future.done():
            self._end_unsent(flight)
        elif flight.crashes > CRASHES_ALLOWED:
            self.metrics.poison_images.inc()
            digest = hashlib.sha256(self.area.images[flight.slot].tobytes()).hexdigest()
            logger.error("an image was on the device at %d crashes and is given up: sha256 %s", flight.crashes, digest)
            flight.request.fail(
                InferenceError(f"this image was on the device at {flight.crashes} crashes; it is not tried again")
            )
            self._end_unsent(flight)
        else:
            self._dispatch(flight)

    def _abandon(self, flights: Sequence[Flight]) -> None:
        """Drop images whose request has ended: free those that no worker has, and cancel the others."""
        for flight in flights:
            if flight.worker is None:
                if flight in self._unassigned:
                    self._unassigned.remove(flight)
                    self._end_unsent(flight)
            else:
                flight.worker.cancellations.append(Cancellation(flight.slot, flight.generation))
                self._plan_flush()

    def _end_unsent(self, flight: Flight) -> None:
        if self._flights.end(flight.slot, flight.generation) is not None:
            self._admission.give_back(flight.slot)

    def _end_overdue(self) -> None:
        self._sweep = None
        now = self._clock()
        for flight in self._flights:
            if flight.request.deadline <= now:
                flight.request.fail(DeadlineError("the deadline passed before the device answered"))
        if self._flights.count:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._end_overdue)
