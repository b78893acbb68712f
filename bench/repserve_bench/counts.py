"""The counts of a replay so far; requests may end on any thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from typing_extensions import override

from repserve_bench.driver import Recorder
from repserve_bench.predictions import Prediction
from repserve_bench.tally import Tally
from repserve_client.errors import DeadlineExceededError, InternalError
from repserve_client.results import RankedClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repserve_bench.dataset import Sample
    from repserve_client.errors import ClientError
    from repserve_protos.v1 import classification_pb2 as pb

MICROSECOND = 1e-6


class Counts(Recorder):
    """Counts the outcomes of requests between two calls of `take`."""

    def __init__(self, groups: Sequence[tuple[Sample, ...]]) -> None:
        self._groups = groups
        self.predictions: dict[str, Prediction] = {}
        """The first answer for each image, by file name."""
        self._tally = Tally()
        self._lock = threading.Lock()
        self._closed = False
        self._open: Counter[float] = Counter()
        """Requests that are not answered yet, by when they were due."""
        self.last_ended = 0.0
        """``time.monotonic()`` of the last answer."""

    def take(self) -> Tally:
        """Return what was counted since the last call."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def close(self) -> Tally:
        """Return what was counted since the last ``take``, and count nothing more: answers may still come.

        Requests that are not answered count with the time that they have waited by now.
        """
        with self._lock:
            self._closed = True
            tally, self._tally = self._tally, Tally()
            now = time.monotonic()
            for due in self._open.elements():
                tally.give_up(due, now)
                tally.unanswered += 1
        return tally

    def forget(self) -> None:
        """Start from zero again, as after a warm-up."""
        self.take()
        self.predictions.clear()
        self._open.clear()

    @override
    def sent(self, due: float, free: float) -> None:
        lag = time.monotonic() - free
        with self._lock:
            self._tally.send_lag_seconds += lag
            self._tally.worst_send_lag = max(self._tally.worst_send_lag, lag)
            self._tally.worst_hold = max(self._tally.worst_hold, free - due)
            self._open[due] += 1

    @override
    def retried(self, code: str) -> None:
        with self._lock:
            self._tally.retries[code] += 1

    @override
    def failed(self, failure: ClientError, due: float) -> None:
        with self._lock:
            if not self._closed:
                self._end(due)
                self._fail(failure, due)

    @override
    def answered(self, index: int, response: pb.ClassifyResponse, due: float, ended: float) -> None:
        samples = self._groups[index]
        with self._lock:
            if self._closed:
                return
            self._end(due)
            self.last_ended = ended
            if len(response.predictions) != len(samples) or not all(one.classes for one in response.predictions):
                counts = [len(one.classes) for one in response.predictions]
                self._fail(
                    InternalError(
                        f"{len(samples)} images were sent, and the answer has this many classes for each: {counts}"
                    ),
                    due,
                )
                return
            tally = self._tally
            tally.latencies.append(ended - due)
            tally.ended.append(ended)
            tally.requests += 1
            tally.statuses["OK"] += 1
            tally.images += len(samples)
            tally.versions[response.version] += len(samples)
            tally.decode_seconds += response.decode_microseconds * MICROSECOND
            for sample, prediction in zip(samples, response.predictions, strict=True):
                if prediction.batch_size:
                    tally.batch_sizes[prediction.batch_size] += 1
                    tally.queue_seconds += prediction.queue_microseconds * MICROSECOND
                    tally.compute_seconds += prediction.compute_microseconds * MICROSECOND
                self._compare(tally, sample, prediction)

    def _end(self, due: float) -> None:
        self._open[due] -= 1
        if not self._open[due]:
            del self._open[due]

    def _fail(self, failure: ClientError, due: float) -> None:
        tally = self._tally
        tally.requests += 1
        tally.statuses[failure.code] += 1
        tally.failures.setdefault(failure.code, failure.message)
        if isinstance(failure, DeadlineExceededError):
            tally.give_up(due, time.monotonic())

    def _compare(self, tally: Tally, sample: Sample, prediction: pb.Prediction) -> None:
        classes = prediction.classes
        first = self.predictions.get(sample.name)
        if first is not None:
            tally.changed_answers += first.best.index != classes[0].index
            return
        best = classes[0]
        ranked = tuple(entry.index for entry in classes)
        self.predictions[sample.name] = Prediction(RankedClass(best.index, best.label, best.probability), ranked)
        if sample.label is not None:
            # An image that is sent again counts once, or the first of the set would weigh more.
            tally.accuracy.add(sample.label, ranked)
