"""A closed loop of checked requests, without retries, that runs beside whatever a test does to the server."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import Self

import grpc
import numpy as np

from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationStub
from support.versioned_runtime import expected_class

SIDE = 8
STOP_SECONDS = 60.0
LAG_SECONDS = 0.1
"""How long an answer may lie in this process before its caller's turn comes."""


class Load:
    """Requests of one to three images from so many callers at a time, in a thread of its own.

    Attributes:
        versions: how often each version answered.
        failures: what went wrong, as text: a status, or an answer that is not the request's.
        late: answers that came after the deadline of their request, and not because this loop was busy.
        statuses: how often each status came, of those that the test expects.
    """

    def __init__(
        self,
        address: str,
        concurrency: int = 64,
        timeouts: tuple[float, float] = (60.0, 60.0),
        expected: tuple[str, ...] = (),
    ) -> None:
        self._address, self._concurrency, self._timeouts, self._expected = address, concurrency, timeouts, expected
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.late = 0
        self.statuses: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_SECONDS)
        assert not self._thread.is_alive(), "a request was never answered"

    @property
    def answered(self) -> int:
        """Requests that were answered well."""
        return self.versions.total()

    async def _run(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.aio.insecure_channel(self._address, options=options) for _ in range(4)]
        stubs = [ClassificationStub(channel) for channel in channels]
        await asyncio.gather(*(self._work(stubs[number % 4], number) for number in range(self._concurrency)))
        for channel in channels:
            await channel.close(None)

    async def _work(self, stub: object, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            pixels = [chance.randrange(200) for _ in range(chance.randint(1, 3))]
            await self._ask(stub, pixels, chance.uniform(*self._timeouts))

    async def _ask(self, stub: object, pixels: list[int], seconds: float) -> None:
        images = np.stack([np.full((SIDE, SIDE, 3), pixel, np.uint8) for pixel in pixels])
        request = pb.ClassifyRequest(pixels=pb.Pixels(count=len(pixels), data=images.tobytes()))
        started = time.monotonic()
        try:
            response = await stub.Classify(request, timeout=seconds)  # type: ignore[attr-defined]
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            self.statuses[code] += 1
            if code not in self._expected:
                self.failures.append(f"{code}: {error.details()}")
            return
        self.late += time.monotonic() - started > seconds + LAG_SECONDS
        got = [prediction.classes[0].index for prediction in response.predictions]
        if got != [expected_class(pixel, int(response.version)) for pixel in pixels]:
            self.failures.append(f"version {response.version} answered {got} for {pixels}")
        self.versions[response.version] += 1
