"""What only the asyncio client can do: many calls at once, slow inputs, cancelled tasks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from repserve_client import AsyncClient, Classification, ClientClosedError
from support.fake_server import FakeServer, default_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from repserve_protos.v1.classification_pb2 import ClassifyRequest, ClassifyResponse

_WAIT = 20.0


def test_calls_run_at_the_same_time() -> None:
    together = threading.Barrier(8)

    def script(request: ClassifyRequest) -> ClassifyResponse:
        together.wait(_WAIT)
        return default_answer(request)

    async def use(address: str) -> list[Classification]:
        async with AsyncClient(address, channels=2) as client:
            return await asyncio.gather(*(client.classify(b"x" * number) for number in range(1, 9)))

    with FakeServer(script) as server:
        results = asyncio.run(use(server.address))
    assert [result.predictions[0].best.index for result in results] == list(range(1, 9))


def test_a_slow_input_holds_up_no_outcome() -> None:
    async def use(address: str) -> None:
        answered = asyncio.Event()

        async def frames() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.wait_for(answered.wait(), _WAIT)
            yield b"xx"

        async with AsyncClient(address) as client:
            outcomes = client.classify_stream(frames())
            assert isinstance(await anext(outcomes), Classification)
            answered.set()
            assert isinstance(await anext(outcomes), Classification)
            assert await anext(outcomes, None) is None

    with FakeServer() as server:
        asyncio.run(use(server.address))


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_task_stays_cancelled_and_a_closed_client_says_so(stream: bool) -> None:
    arrived, release = threading.Semaphore(0), threading.Event()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        arrived.release()
        release.wait(_WAIT)
        return default_answer(request)

    async def ask(client: AsyncClient) -> None:
        if stream:
            async for _ in client.classify_stream([b"x"]):
                pass
        else:
            await client.classify(b"x")

    async def use(server: FakeServer) -> None:
        client = AsyncClient(server.address)
        for expected, end in [(asyncio.CancelledError, None), (ClientClosedError, client.close)]:
            task = asyncio.create_task(ask(client))
            assert await asyncio.to_thread(arrived.acquire, timeout=_WAIT)
            if end is None:
                task.cancel()
            else:
                await end()
            with pytest.raises(expected):
                await asyncio.wait_for(task, _WAIT)

    with FakeServer(script) as server:
        asyncio.run(use(server))
        release.set()


def test_an_abandoned_stream_leaves_no_task_behind() -> None:
    async def use(address: str) -> None:
        async with AsyncClient(address) as client:
            async for _ in client.classify_stream([b"x"] * 50, window=4):
                break
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                _, unfinished = await asyncio.wait(others, timeout=_WAIT)
                assert not unfinished

    with FakeServer() as server:
        asyncio.run(use(server.address))
        assert server.stream_ended.wait(_WAIT)
