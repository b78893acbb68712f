"""The decode pool: a slot is released once when decoding fails or is cancelled, never while a thread writes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from repserve_server.dataplane import decoding
from repserve_server.dataplane.decoding import DecodePool
from repserve_server.errors import DeadlineError, ImageError
from repserve_server.imaging.preprocessing import Preprocessing
from support.queue_harness import WAIT_SECONDS, run_async, settle

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = Preprocessing(resize=2, crop=2)


class Gate:
    """Stands in for the decoder: begins, waits to be let through, then writes or fails."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()
        self.writing = False
        self.error: Exception | None = None

    def write_encoded(self, data: bytes, _: Preprocessing, out: NDArray[np.uint8], *, max_pixels: int) -> None:
        self.writing = True
        self.begun.set()
        assert self.open.wait(WAIT_SECONDS)
        out[...] = data[0] + max_pixels
        self.writing = False
        if self.error is not None:
            raise self.error


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(decoding, "write_encoded", made.write_encoded)
    yield made
    made.open.set()


class Releases:
    """Counts releases; none may come while the decoder writes."""

    def __init__(self, gate: Gate) -> None:
        self.count = 0
        self.done = asyncio.Event()
        self._gate = gate

    def __call__(self) -> None:
        assert not self._gate.writing, "released under a thread that writes"
        self.count += 1
        self.done.set()


def start(pool: DecodePool, out: NDArray[np.uint8], release: Any) -> asyncio.Future[float]:  # noqa: ANN401
    return pool.decode(b"\x05", SMALL, out, release)


def test_an_image_is_decoded_into_its_slot_and_not_released(gate: Gate) -> None:
    async def test() -> None:
        pool, out, release = DecodePool(1, 7), np.zeros((2, 2, 3), np.uint8), Releases(gate)
        gate.open.set()
        seconds = await start(pool, out, release)
        assert seconds >= 0.0
        assert (out == 12).all()
        await settle()
        assert release.count == 0
        pool.close()

    run_async(test)


def test_the_threads_give_way_to_others(gate: Gate) -> None:
    async def test() -> None:
        pool = DecodePool(1, 7)
        gate.open.set()
        await start(pool, np.zeros((2, 2, 3), np.uint8), Releases(gate))
        (thread,) = pool._threads
        assert thread.native_id is not None
        assert os.getpriority(os.PRIO_PROCESS, thread.native_id) == decoding.NICENESS
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < decoding.NICENESS
        pool.close()

    run_async(test)


def test_a_failed_image_is_released_once(gate: Gate) -> None:
    async def test() -> None:
        pool, out, release = DecodePool(1, 7), np.zeros((2, 2, 3), np.uint8), Releases(gate)
        gate.error = ImageError("the file is cut off", kind="corrupt")
        gate.open.set()
        with pytest.raises(ImageError):
            await start(pool, out, release)
        await settle()
        assert release.count == 1
        pool.close()

    run_async(test)


def test_a_cancelled_image_is_released_when_its_thread_has_finished(gate: Gate) -> None:
    async def test() -> None:
        pool, out, release = DecodePool(1, 7), np.zeros((2, 2, 3), np.uint8), Releases(gate)
        task = start(pool, out, release)
        await asyncio.to_thread(gate.begun.wait, WAIT_SECONDS)
        task.cancel()
        await settle()
        assert task.cancelled()
        assert release.count == 0, "the thread still writes"
        gate.open.set()
        await asyncio.wait_for(release.done.wait(), WAIT_SECONDS)
        await settle()
        assert release.count == 1
        assert (out == 12).all()
        pool.close()

    run_async(test)


def test_an_image_cancelled_before_a_thread_took_it_is_released_and_never_written(gate: Gate) -> None:
    async def test() -> None:
        pool, release = DecodePool(1, 7), Releases(gate)
        first, second = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
        running = start(pool, first, Releases(gate))
        await asyncio.to_thread(gate.begun.wait, WAIT_SECONDS)
        waiting = start(pool, second, release)
        await settle()
        waiting.cancel()
        await settle()
        gate.open.set()
        await running
        await asyncio.wait_for(release.done.wait(), WAIT_SECONDS)
        await settle()
        assert release.count == 1
        assert not second.any()
        pool.close()

    run_async(test)


def test_an_image_that_waited_beyond_its_deadline_is_not_decoded(gate: Gate) -> None:
    async def test() -> None:
        pool, out, release = DecodePool(1, 7, lambda: 5.0), np.zeros((2, 2, 3), np.uint8), Releases(gate)
        with pytest.raises(DeadlineError):
            await pool.decode(b"a", SMALL, out, release, 4.0)
        assert not gate.begun.is_set()
        assert release.count == 1

    run_async(test)
