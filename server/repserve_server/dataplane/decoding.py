"""Decoding in threads: OpenCV and Pillow give Python's lock back while they work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from repserve_server.imaging.decode import preprocess_into

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from repserve_server.imaging.preprocessing import Preprocessing


class DecodePool:
    """Threads that turn encoded images into preprocessed ones, straight into their slots."""

    def __init__(self, threads: int, max_pixels: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def decode(
        self, data: bytes, preprocessing: Preprocessing, out: NDArray[np.uint8], release: Callable[[], None]
    ) -> float:
        """Decode, resize and crop ``data`` into ``out`` and return the seconds it took.

        If this fails or is cancelled, ``release`` is called once no thread writes to ``out`` any more.

        Raises:
            ImageError: the image is not accepted.
        """
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._decode, data, preprocessing, out)
        try:
            return await asyncio.wrap_future(work, loop=loop)
        except BaseException:
            if work.done():
                release()
            else:
                work.add_done_callback(lambda _: _call_in_loop(loop, release))
            raise

    def close(self) -> None:
        """End the threads; images not begun are not decoded."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, data: bytes, preprocessing: Preprocessing, out: NDArray[np.uint8]) -> float:
        started = time.perf_counter()
        preprocess_into(data, preprocessing, out, max_pixels=self._max_pixels)
        return time.perf_counter() - started


def _call_in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
