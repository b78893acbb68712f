"""The worker's loop: drain the inbox, drop expired images, choose a batch, run it, answer.

While the device runs, the next batch gathers by itself, so no timer is needed to fill batches (work-conserving
batching). The loop has one thread: the device's runtime may hold Python's lock for the whole of a run.
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Sequence

from repserve_server.backends.base import Backend, DeviceError
from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.messages import (
    MAX_ENTRIES,
    Answer,
    CloseReason,
    Outcome,
    SlotOutcome,
    Submission,
    pack_answer,
    unpack_for_worker,
)
from repserve_server.channel.slots import SlotArea
from repserve_server.worker.arrival_rate import ArrivalRate
from repserve_server.worker.metrics import WorkerMetrics
from repserve_server.worker.planner import BatchCosts, Plan, plan
from repserve_server.worker.sources import BatchAssembler, Source, WaitingImage
from repserve_server.worker.waiting import WaitingImages

logger = logging.getLogger(__name__)

_READ_WRITE = selectors.EVENT_READ | selectors.EVENT_WRITE


class WorkerLoop:
    """Runs batches until it is stopped."""

    def __init__(
        self,
        backend: Backend,
        costs: BatchCosts,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend, self._costs, self._metrics, self._clock = backend, costs, metrics, clock
        self._assembler = BatchAssembler(backend.input.shape, backend.input.dtype, costs.largest)
        self._waiting = WaitingImages()
        self._arrivals = ArrivalRate.for_costs(costs)
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def watch(self, file: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` from the loop whenever a descriptor can be read."""
        self._selector.register(file, selectors.EVENT_READ, callback)

    def add_source(self, frontend: str, area: SlotArea, link: Link) -> None:
        """Accept images of a frontend from now on, until its end of the link closes."""
        self._selector.register(link, selectors.EVENT_READ, Source(frontend, area, link))

    @property
    def waiting(self) -> int:
        """The number of images that wait for a run."""
        return len(self._waiting)

    def stop(self) -> None:
        """Stop the loop after the present batch."""
        self._stopping = True

    def run(self) -> None:
        """Run until ``stop``.

        Raises:
            DeviceError: the device failed for good; the images of the last batch are still marked as running.
        """
        while not self._stopping:
            self._drain_inbox(wait=not self._waiting)
            self._drop_expired()
            if self._waiting:
                self._run_batch(self._choose())

    def _drain_inbox(self, *, wait: bool) -> None:
        for key, events in self._selector.select(None if wait else 0):
            if not isinstance(key.data, Source):
                key.data()
                continue
            try:
                if events & selectors.EVENT_WRITE:
                    self._flush(key.data)
                for message in key.data.link.receive_all():
                    self._take_message(key.data, message)
            except LinkClosedError:
                self._drop_source(key.data)

    def _take_message(self, source: Source, message: bytes) -> None:
        entries = unpack_for_worker(message)
        submissions = [entry for entry in entries if isinstance(entry, Submission)]
        if submissions:
            self._waiting.add(source, submissions)
            self._arrivals.add(len(submissions), self._clock())
            return
        cancellations = [entry for entry in entries if not isinstance(entry, Submission)]
        self._answer_unrun(self._waiting.take_cancelled(source, cancellations), Outcome.CANCELLED)

    def _drop_expired(self) -> None:
        self._answer_unrun(self._waiting.take_expired(self._clock()), Outcome.EXPIRED)

    def _choose(self) -> Plan:
        alone = self._waiting.first_alone()
        if alone is not None:
            return Plan(self._costs.next_size(1), (alone,), CloseReason.ALONE)
        now = self._clock()
        return plan(self._waiting.deadlines(), self._costs, now, self._arrivals.per_second(now))

    def _run_batch(self, chosen: Plan) -> None:
        images = self._waiting.take(chosen.take)
        images.sort(key=lambda image: (id(image.source), image.slot))
        batch = self._assembler.assemble(images, chosen.size)
        for image in images:
            image.source.area.running[image.slot] = image.generation
        started = self._clock()
        try:
            scores = self._backend.run(batch)
        except DeviceError:
            # The marks stay: they show the frontends which images were on the device.
            self._metrics.count_failed_run()
            raise
        except Exception:
            self._metrics.count_failed_run()
            logger.exception("a run of %d images failed on the device", len(images))
            outcome = Outcome.FAILED
        else:
            outcome = Outcome.SCORED
            for row, image in enumerate(images):
                image.source.area.scores[image.slot] = scores[row]
        finished = self._clock()
        for image in images:
            image.source.area.running[image.slot] = 0
        if outcome is Outcome.FAILED and len(images) > 1:
            # One image may be the reason: each gets a run of its own, so that the others get their answers.
            self._waiting.put_back_alone(images)
            return
        self._metrics.count_batch(len(images), chosen.size, chosen.reason, finished - started)
        self._answer(images, outcome, chosen, started, finished)

    def _answer_unrun(self, images: Sequence[WaitingImage], outcome: Outcome) -> None:
        if images:
            self._metrics.count_unrun(len(images), outcome)
            self._answer(images, outcome, Plan(0, (), CloseReason.NONE), 0.0, 0.0)

    def _answer(
        self, images: Sequence[WaitingImage], outcome: Outcome, chosen: Plan, started: float, finished: float
    ) -> None:
        """Send one message to each frontend that has images among these."""
        by_source: dict[Source, list[SlotOutcome]] = {}
        for image in images:
            by_source.setdefault(image.source, []).append(SlotOutcome(image.slot, image.generation, outcome))
        size = len(chosen.take)
        for source, slots in by_source.items():
            try:
                for first in range(0, len(slots), MAX_ENTRIES):
                    part = slots[first : first + MAX_ENTRIES]
                    answer = Answer(size, chosen.size, chosen.reason, started, finished, part, len(self._waiting))
                    source.link.send(pack_answer(answer))
            except LinkClosedError:
                self._drop_source(source)
                continue
            if source.link.has_backlog:
                self._selector.modify(source.link, _READ_WRITE, source)

    def _flush(self, source: Source) -> None:
        source.link.flush()
        if not source.link.has_backlog:
            self._selector.modify(source.link, selectors.EVENT_READ, source)

    def _drop_source(self, source: Source) -> None:
        if source.link.fileno() < 0:
            return
        self._selector.unregister(source.link)
        source.link.close()
        dropped = self._waiting.drop_source(source)
        logger.info("%s is gone; waiting images dropped with it: %d", source.frontend, dropped)
