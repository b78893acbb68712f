"""The messages between a frontend and a worker: fixed-size entries, packed.

A frontend submits slots and cancels them; a worker answers whole batches. Times are seconds of CLOCK_MONOTONIC,
which all processes of a machine share. A generation tells two uses of the same slot apart, so that a late message
is never taken for another request's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

_SUBMIT, _CANCEL, _ANSWER = 1, 2, 3
_KIND = struct.Struct("<B")
_SUBMISSION = struct.Struct("<IIdBBI")
_CANCELLATION = struct.Struct("<II")
_BATCH = struct.Struct("<HHBddI")
_OUTCOME = struct.Struct("<IIB")

MAX_MESSAGE = 65_536
"""Bytes of the largest message; longer lists are split by the sender."""
MAX_ENTRIES = MAX_MESSAGE // _SUBMISSION.size - 1


class Priority(IntEnum):
    """Which images go first while several wait."""

    NORMAL = 0
    HIGH = 1


class Submission(NamedTuple):
    """An image in a slot, waiting to be run before its deadline.

    ``alone``: in a batch of its own. ``client`` is a number for whoever sent it: clients are served in turns.
    """

    slot: int
    generation: int
    deadline: float
    alone: bool
    priority: Priority = Priority.NORMAL
    client: int = 0


class Cancellation(NamedTuple):
    """A submitted image whose answer nobody wants any more."""

    slot: int
    generation: int


class Outcome(IntEnum):
    """What became of a submitted image."""

    SCORED = 0
    EXPIRED = 1
    CANCELLED = 2
    FAILED = 3


class CloseReason(IntEnum):
    """Why a batch was closed and run as it was; NONE where nothing was run."""

    NONE = 0
    FULL = 1
    CHEAPEST = 2
    DEADLINE = 3
    ALONE = 4


class SlotOutcome(NamedTuple):
    """What became of one slot."""

    slot: int
    generation: int
    outcome: Outcome


class Answer(NamedTuple):
    """One batch's outcome: ``size`` images ran in a run compiled for ``compiled`` from ``started`` to ``finished``.

    ``waiting`` is how many images then waited for the worker, those of other frontends included.
    """

    size: int
    compiled: int
    reason: CloseReason
    started: float
    finished: float
    slots: Sequence[SlotOutcome]
    waiting: int = 0


def pack_submissions(submissions: Sequence[Submission]) -> bytes:
    """One message for the worker; at most MAX_ENTRIES entries."""
    return _KIND.pack(_SUBMIT) + b"".join(_SUBMISSION.pack(*entry) for entry in submissions)


def pack_cancellations(cancellations: Sequence[Cancellation]) -> bytes:
    """One message for the worker; at most MAX_ENTRIES entries."""
    return _KIND.pack(_CANCEL) + b"".join(_CANCELLATION.pack(*entry) for entry in cancellations)


def pack_answer(answer: Answer) -> bytes:
    """One message for the frontend that owns the slots."""
    head = _BATCH.pack(answer.size, answer.compiled, answer.reason, answer.started, answer.finished, answer.waiting)
    return b"".join((_KIND.pack(_ANSWER), head, *(_OUTCOME.pack(*entry) for entry in answer.slots)))


def unpack_for_worker(message: bytes) -> list[Submission] | list[Cancellation]:
    """Read a message from a frontend."""
    body = memoryview(message)[_KIND.size :]
    if message[0] == _SUBMIT:
        return [Submission(s, g, d, bool(a), Priority(p), c) for s, g, d, a, p, c in _SUBMISSION.iter_unpack(body)]
    if message[0] == _CANCEL:
        return [Cancellation(*entry) for entry in _CANCELLATION.iter_unpack(body)]
    raise ValueError(f"a worker got a message of unknown kind {message[0]}")


def unpack_answer(message: bytes) -> Answer:
    """Read a message from a worker."""
    if message[0] != _ANSWER:
        raise ValueError(f"a frontend got a message of unknown kind {message[0]}")
    body = memoryview(message)[_KIND.size :]
    size, compiled, reason, started, finished, waiting = _BATCH.unpack_from(body)
    slots = [SlotOutcome(s, g, Outcome(o)) for s, g, o in _OUTCOME.iter_unpack(body[_BATCH.size :])]
    return Answer(size, compiled, CloseReason(reason), started, finished, slots, waiting)
