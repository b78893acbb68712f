"""Calls between two processes: errors travel, responses find their calls, nothing waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from repserve_server.channel.calls import Handler, Peer
from repserve_server.channel.message import Message
from repserve_server.channel.requests import (
    AnyRequest,
    Call,
    ChangeLogLevel,
    Done,
    ListRegions,
    LoadModel,
    Region,
    RegionList,
    Reply,
    UnloadModel,
)
from repserve_server.errors import InvalidRequestError, QueueFullError, RepServeError, ServerUnavailableError, Status
from support.queue_harness import run_async, settle


async def refuse(request: AnyRequest) -> Done:
    raise AssertionError(f"nobody calls this side, got {request}")


class Pair:
    """Two peers, connected."""

    def __init__(self, handle: Handler) -> None:
        self.calling = Peer(lambda message: self._deliver(self.answering, message), refuse)
        self.answering: Peer = Peer(lambda message: self._deliver(self.calling, message), handle)

    @staticmethod
    def _deliver(to: Peer, message: Message) -> None:
        assert isinstance(message, Call | Reply)
        to.receive(type(message).model_validate_json(message.model_dump_json()))


def test_responses_find_their_calls_in_any_order() -> None:
    async def test() -> None:
        gates = {name: asyncio.Event() for name in ("first", "second")}

        async def handle(request: AnyRequest) -> RegionList:
            assert isinstance(request, LoadModel)
            await gates[request.model].wait()
            return RegionList(regions=(Region(request.model, "key", 0, 1),))

        async def call(pair: Pair, name: str) -> RegionList:
            response: object = await pair.calling.call(LoadModel(model=name), 10)
            assert isinstance(response, RegionList)
            return response

        pair = Pair(handle)
        first = asyncio.ensure_future(call(pair, "first"))
        second = asyncio.ensure_future(call(pair, "second"))
        await settle()
        gates["second"].set()
        assert (await second).regions[0].name == "second"
        assert not first.done()
        gates["first"].set()
        assert (await first).regions[0].name == "first"

    run_async(test)


@pytest.mark.parametrize(
    "error", [InvalidRequestError("no such thing"), QueueFullError("it is full", retry_after=0.25)]
)
def test_an_error_is_raised_again_where_the_call_was_made(error: RepServeError) -> None:
    async def test() -> None:
        async def handle(_: AnyRequest) -> Done:
            raise error

        with pytest.raises(RepServeError) as caught:
            await Pair(handle).calling.call(ListRegions(), 10)
        raised = caught.value
        assert (raised.status, raised.message, raised.retry_after) == (error.status, error.message, error.retry_after)

    run_async(test)


def test_an_unknown_error_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def handle(_: AnyRequest) -> Done:
            raise ZeroDivisionError

        with pytest.raises(RepServeError, match="the server's log says why") as caught:
            await Pair(handle).calling.call(ChangeLogLevel(level="info"), 10)
        assert caught.value.status is Status.INTERNAL
        assert "ChangeLogLevel failed" in caplog.text

    run_async(test)


def test_a_call_without_a_response_in_time_fails_and_a_late_response_is_dropped() -> None:
    async def test() -> None:
        gate = asyncio.Event()

        async def handle(_: AnyRequest) -> Done:
            await gate.wait()
            return Done()

        pair = Pair(handle)
        with pytest.raises(ServerUnavailableError, match="no response to UnloadModel within 0 s"):
            await pair.calling.call(UnloadModel(model="m"), 0.01)
        gate.set()
        await settle()

    run_async(test)


def test_calls_fail_when_the_other_side_is_gone() -> None:
    async def test() -> None:
        async def handle(_: AnyRequest) -> Done:
            await asyncio.Event().wait()
            return Done()

        pair = Pair(handle)
        call = asyncio.ensure_future(pair.calling.call(ListRegions(), 10))
        await settle()
        pair.calling.close()
        pair.answering.close()
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await call
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await pair.calling.call(ListRegions(), 10)

    run_async(test)
