"""The requests of one load process: which is next, and until when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from repserve_bench.counts import Counts


class Replay(Protocol):
    """Sends a job's requests in a closed or an open loop, and counts what comes back."""

    counts: Counts

    @property
    def requests_kept(self) -> bool:
        """Whether all requests were made in advance."""

    async def prepare(self, connect_timeout: float) -> None:
        """Makes the requests and connects.

        Raises:
            PayloadError: An image could not be read.
            TimeoutError: No server answers.
        """

    async def run(self, *, requests: int, seconds: float) -> None:
        """Replays from the first image on until at least so many requests and seconds are reached, or ``stop``.

        Raises:
            PayloadError: An image could not be read when its turn came.
        """

    def stop(self) -> None:
        """Sends nothing more."""

    async def close(self) -> None:
        """Ends what is still in flight, and the connections."""


class Pace:
    """Deals out the indices of requests until their number and the time are reached."""

    def __init__(self, requests_in_a_pass: int) -> None:
        self._pass = requests_in_a_pass
        self._requests = 0
        self._sent = 0
        self._end = 0.0
        self.stopped = False

    def begin(self, *, requests: int, seconds: float) -> None:
        """Starts from the first request."""
        self._sent, self._requests = 0, requests
        self._end = time.monotonic() + seconds

    def enough(self, due: float) -> bool:
        """Says whether a request that is due then is not sent any more."""
        return self.stopped or (self._sent >= self._requests and due >= self._end)

    def next_index(self) -> int:
        """Counts a request and returns its index."""
        index = self._sent % self._pass
        self._sent += 1
        return index
