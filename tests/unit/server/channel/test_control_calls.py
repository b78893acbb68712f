"""Calls between two processes: errors travel, responses find their calls, nothing waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from repserve_server.channel.calls import Caller, attempt
from repserve_server.channel.message import Message
from repserve_server.channel.requests import AnyResponse, Call, Done, ListRegions, LoadModel, Region, RegionList, Reply
from repserve_server.errors import InvalidRequestError, QueueFullError, RepServeError, ServerUnavailableError, Status
from support.queue_harness import run_async, settle


class Channel:
    """A caller whose calls a test answers."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.caller = Caller(self._send)

    def _send(self, message: Message) -> None:
        self.calls.append(Call.model_validate_json(message.model_dump_json()))

    def answer(self, call: Call, response: AnyResponse) -> None:
        reply = Reply(number=call.number, response=response)
        self.caller.take(Reply.model_validate_json(reply.model_dump_json()))


def test_responses_find_their_calls_in_any_order() -> None:
    async def test() -> None:
        channel = Channel()
        first, second = (asyncio.ensure_future(channel.caller.call(ListRegions(), 10)) for _ in range(2))
        await settle()
        responses = [RegionList(regions=(Region(name, "key", 0, 1),)) for name in ("first", "second")]
        channel.answer(channel.calls[1], responses[1])
        assert await second == responses[1]
        assert not first.done()
        channel.answer(channel.calls[0], responses[0])
        assert await first == responses[0]

    run_async(test)


@pytest.mark.parametrize(
    "error", [InvalidRequestError("no such thing"), QueueFullError("it is full", retry_after=0.25)]
)
def test_an_error_is_raised_again_where_the_call_was_made(error: RepServeError) -> None:
    async def test() -> None:
        def handle() -> Done:
            raise error

        channel = Channel()
        call = asyncio.ensure_future(channel.caller.call(ListRegions(), 10))
        await settle()
        channel.answer(channel.calls[0], attempt(ListRegions(), handle))
        with pytest.raises(RepServeError) as caught:
            await call
        raised = caught.value
        assert (raised.status, raised.message, raised.retry_after) == (error.status, error.message, error.retry_after)

    run_async(test)


def test_an_unknown_error_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    failure = attempt(LoadModel(model="m"), lambda: 1 // 0)
    assert not isinstance(failure, int)
    assert failure.status is Status.INTERNAL
    assert "the server's log says why" in failure.message
    assert "LoadModel failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_call_without_a_response_in_time_fails_and_a_late_response_is_dropped() -> None:
    async def test() -> None:
        channel = Channel()
        with pytest.raises(ServerUnavailableError, match="no response to LoadModel within 0 s"):
            await channel.caller.call(LoadModel(model="m"), 0.01)
        channel.answer(channel.calls[0], Done())

    run_async(test)


def test_calls_fail_when_the_other_side_is_gone() -> None:
    async def test() -> None:
        channel = Channel()
        call = asyncio.ensure_future(channel.caller.call(ListRegions(), 10))
        await settle()
        channel.caller.close()
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await call
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await channel.caller.call(ListRegions(), 10)

    run_async(test)


def test_a_request_that_cannot_be_sent_leaves_nothing_behind() -> None:
    def send(_: Message) -> None:
        raise ValueError("too long")

    async def test() -> None:
        caller = Caller(send)
        with pytest.raises(ValueError, match="too long"):
            await caller.call(ListRegions(), 10)
        assert not caller.waiting

    run_async(test)
