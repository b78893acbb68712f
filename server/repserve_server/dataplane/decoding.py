"""Decoding in threads: Pillow gives Python's lock back while it works."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from repserve_server.errors import DeadlineError
from repserve_server.imaging.model_input import write_encoded
from repserve_server.process import give_way

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from repserve_server.imaging.preprocessing import Preprocessing


NICENESS = 10
"""Of the threads, so that the event loop goes first.

Offered twice the JPEGs that two cores can decode, a server refused in 41 ms without it and in 4.5 ms with it (median,
client and server on these cores). Without overload it made no measurable difference.
"""
_NEWEST_WEIGHT = 0.05
"""Of an image in the running mean of decoding times."""


class _Work(NamedTuple):
    data: bytes
    preprocessing: Preprocessing
    out: NDArray[np.generic]
    deadline: float
    future: asyncio.Future[float]
    release: Callable[[], None]


class DecodePool:
    """Threads that turn encoded images into preprocessed ones, straight into their slots.

    Leaner than an executor: no future with a lock for each image, and images that are done close together wake the
    event loop once. The work that waits is bounded by the slots that images are decoded into.
    """

    def __init__(self, threads: int, max_pixels: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_pixels = max_pixels
        self._clock = clock
        self._waiting = 0
        self._mean_seconds = 0.0
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._done: list[tuple[_Work, float | BaseException]] = []
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._run, name=f"decode-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def decode(
        self,
        data: bytes,
        preprocessing: Preprocessing,
        out: NDArray[np.generic],
        release: Callable[[], None],
        deadline: float = math.inf,
    ) -> asyncio.Future[float]:
        """Decode and preprocess ``data`` into ``out``, a slot of either kind; the future gives the seconds it took.

        If this fails or the future is cancelled, ``release`` is called once no thread writes to ``out`` any more. A
        future that has its result can no longer be cancelled: its owner releases the slot.

        The future may raise ``ImageError``, when the image is not accepted, and ``DeadlineError``, when ``deadline``, a
        time of the pool's clock, passed while the image waited for a thread.
        """
        future: asyncio.Future[float] = self._loop.create_future()
        self._work.put(_Work(data, preprocessing, out, deadline, future, release))
        self._waiting += 1
        return future

    @property
    def backlog_seconds(self) -> float:
        """How long the images that wait to be decoded will keep the threads busy, by what others took."""
        return self._waiting * self._mean_seconds / len(self._threads)

    def close(self) -> None:
        """End the threads once the images that wait are decoded."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        give_way(NICENESS)
        while (work := self._work.get()) is not None:
            started = time.perf_counter()
            result: float | BaseException
            try:
                if work.deadline <= self._clock():
                    result = DeadlineError("the deadline passed while the image waited to be decoded")
                else:
                    if not work.future.cancelled():
                        write_encoded(work.data, work.preprocessing, work.out, max_pixels=self._max_pixels)
                    result = time.perf_counter() - started
            except BaseException as error:  # noqa: BLE001 - raised where the image is awaited
                result = error
            with self._lock:
                self._done.append((work, result))
                wake = len(self._done) == 1
            if wake and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._complete)

    def _complete(self) -> None:
        with self._lock:
            completed, self._done = self._done, []
        self._waiting -= len(completed)
        for work, result in completed:
            if work.future.cancelled():
                work.release()
            elif isinstance(result, float):
                self._mean_seconds += _NEWEST_WEIGHT * (result - self._mean_seconds)
                work.future.set_result(result)
            else:
                work.release()
                work.future.set_exception(result)
