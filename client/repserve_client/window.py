"""The bookkeeping of a stream of requests: order, window, deadlines and retries; no input or output."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from repserve_client.errors import ClientError, DeadlineExceededError, from_status
from repserve_client.results import Classification
from repserve_client.retry import RetryPolicy, checked_timeout
from repserve_protos.v1 import classification_pb2

Outcome: TypeAlias = Classification | ClientError
"""What one image of a stream ends with."""

_MAX_TIMEOUT_MILLISECONDS = 2**32 - 1


class _State(Enum):
    WAITING = "waiting to be sent, for the first time or again"
    IN_FLIGHT = "sent, not answered"
    DONE = "has its outcome"


@dataclass(slots=True)
class _Item:
    request: classification_pb2.ClassifyRequest | None
    deadline: float
    state: _State = _State.WAITING
    attempts: int = 0
    outcome: Outcome | None = None


class StreamWindow:
    """Up to ``size`` images that were read from the input and not yet returned to the consumer, in order.

    A pure state machine; ``now`` is any clock's seconds. The owner adds images while there is `room`, sends those that
    are `due`, reports answers and broken streams, and gets outcomes with `take`. An item's id is its place in the
    input; it is in flight at most once, so an id names one request of a stream.
    """

    def __init__(self, size: int, policy: RetryPolicy, timeout: float) -> None:
        if size < 1:
            raise ValueError(f"the window is {size}; expected at least 1")
        self._size = size
        self._policy = policy
        self._timeout = checked_timeout(timeout)
        self.abandoned = False
        """Whether an item's time ended while it was in flight: the server may still be at work on it."""
        self._items: deque[_Item] = deque()
        self._first = 0
        self._schedule: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """Return the number of images read and not yet returned."""
        return len(self._items)

    @property
    def room(self) -> bool:
        """Whether another image may be read from the input."""
        return len(self._items) < self._size

    def ready(self, now: float) -> bool:
        """Return whether `take` has an outcome."""
        head = self._items[0] if self._items else None
        return head is not None and (head.state is _State.DONE or head.deadline <= now)

    def add(self, request: classification_pb2.ClassifyRequest, now: float) -> None:
        """Add the input's next image; its time runs from now."""
        heapq.heappush(self._schedule, (now, self._first + len(self._items)))
        self._items.append(_Item(request, now + self._timeout))

    def add_failed(self, error: ClientError) -> None:
        """Add an image that cannot be sent; it keeps its place in the order."""
        self._items.append(_Item(None, 0.0, _State.DONE, outcome=error))

    def due(self, now: float) -> list[classification_pb2.ClassifyStreamRequest]:
        """Return the messages to send now; they count as in flight from now on."""
        messages = []
        while self._schedule and self._schedule[0][0] <= now:
            _, number = heapq.heappop(self._schedule)
            item = self._item(number)
            if item is None or item.state is not _State.WAITING or item.deadline <= now:
                continue
            item.state = _State.IN_FLIGHT
            item.attempts += 1
            messages.append(
                classification_pb2.ClassifyStreamRequest(
                    id=number, request=item.request, timeout_milliseconds=_milliseconds(item.deadline - now)
                )
            )
        return messages

    def answered(self, message: classification_pb2.ClassifyStreamResponse, now: float) -> None:
        """Record an answer; one that is no longer expected is ignored."""
        item = self._item(message.id)
        if item is None or item.state is not _State.IN_FLIGHT:
            return
        if message.WhichOneof("outcome") == "response":
            self._finish(item, Classification.from_message(message.response))
        else:
            self._failed(message.id, item, from_status(message.status), now)

    def broken(self, error: ClientError, now: float) -> None:
        """Record that the stream ended with ``error``: requests in flight on it are unanswered."""
        for number, item in enumerate(self._items, self._first):
            if item.state is _State.IN_FLIGHT:
                self._failed(number, item, error, now)

    def take(self, now: float) -> Outcome | None:
        """Remove the oldest image and return its outcome; None while it has none."""
        if not self.ready(now):
            return None
        head = self._items.popleft()
        self._first += 1
        self.abandoned |= head.state is _State.IN_FLIGHT
        if head.state is _State.IN_FLIGHT or head.outcome is None:
            return DeadlineExceededError(f"no answer within {self._timeout:g} s")
        # An image that waits for a retry ends with the reason of its last attempt.
        return head.outcome

    def next_wake(self) -> float | None:
        """Return when to call `due` or `take` again even if nothing happens; None if nothing is scheduled."""
        times = [self._schedule[0][0]] if self._schedule else []
        if self._items:
            times.append(self._items[0].deadline)
        return min(times, default=None)

    def _item(self, number: int) -> _Item | None:
        place = number - self._first
        return self._items[place] if 0 <= place < len(self._items) else None

    def _failed(self, number: int, item: _Item, error: ClientError, now: float) -> None:
        delay = self._policy.delay(error, item.attempts, item.deadline - now)
        if delay is None:
            self._finish(item, error)
        else:
            item.state = _State.WAITING
            item.outcome = error
            heapq.heappush(self._schedule, (now + delay, number))

    @staticmethod
    def _finish(item: _Item, outcome: Outcome) -> None:
        item.state = _State.DONE
        item.outcome = outcome
        item.request = None


def _milliseconds(seconds: float) -> int:
    return min(max(int(seconds * 1000), 1), _MAX_TIMEOUT_MILLISECONDS)
