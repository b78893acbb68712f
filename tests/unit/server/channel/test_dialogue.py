"""Questions and answers between two processes: errors travel, answers find their questions, nothing waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from repserve_server.channel.dialogue import Dialogue
from repserve_server.errors import InvalidRequestError, QueueFullError, RepServeError, ServerUnavailableError, Status
from support.queue_harness import run_async, settle

Body = dict[str, Any]


class Pair:
    """Two dialogues that hear each other."""

    def __init__(self, **answerers: Any) -> None:  # noqa: ANN401
        self.asking = Dialogue(lambda kind, body: self._deliver(self.answering, kind, body), {})
        self.answering = Dialogue(lambda kind, body: self._deliver(self.asking, kind, body), answerers)

    @staticmethod
    def _deliver(to: Dialogue, kind: str, body: Body) -> None:
        assert to.take(kind, body)


def test_answers_find_their_questions_in_any_order() -> None:
    async def test() -> None:
        gates = {name: asyncio.Event() for name in ("first", "second")}

        async def wait(body: Body) -> Body:
            await gates[body["name"]].wait()
            return {"said": body["name"]}

        pair = Pair(wait=wait)
        first = asyncio.ensure_future(pair.asking.ask("wait", {"name": "first"}, 10))
        second = asyncio.ensure_future(pair.asking.ask("wait", {"name": "second"}, 10))
        await settle()
        gates["second"].set()
        assert await second == {"said": "second"}
        assert not first.done()
        gates["first"].set()
        assert await first == {"said": "first"}

    run_async(test)


@pytest.mark.parametrize(
    "error", [InvalidRequestError("no such thing"), QueueFullError("it is full", retry_after=0.25)]
)
def test_an_error_is_raised_again_where_the_question_was_asked(error: RepServeError) -> None:
    async def test() -> None:
        async def fail(_: Body) -> Body:
            raise error

        with pytest.raises(RepServeError) as caught:
            await Pair(fail=fail).asking.ask("fail", {}, 10)
        raised = caught.value
        assert (raised.status, raised.message, raised.retry_after) == (error.status, error.message, error.retry_after)

    run_async(test)


def test_an_unknown_error_or_question_is_internal_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def fail(_: Body) -> Body:
            raise ZeroDivisionError

        for question in ("fail", "nobody answers this"):
            caplog.clear()
            with pytest.raises(RepServeError, match="the server's log says why") as caught:
                await Pair(fail=fail).asking.ask(question, {}, 10)
            assert caught.value.status is Status.INTERNAL
            assert question in caplog.text

    run_async(test)


def test_a_question_that_is_not_answered_in_time_fails_and_a_late_answer_is_dropped() -> None:
    async def test() -> None:
        gate = asyncio.Event()

        async def wait(_: Body) -> Body:
            await gate.wait()
            return {}

        pair = Pair(wait=wait)
        with pytest.raises(ServerUnavailableError, match="'wait' was not answered within 0 s"):
            await pair.asking.ask("wait", {}, 0.01)
        gate.set()
        await settle()

    run_async(test)


def test_questions_fail_when_the_other_side_is_gone() -> None:
    async def test() -> None:
        async def wait(_: Body) -> Body:
            await asyncio.Event().wait()
            return {}

        pair = Pair(wait=wait)
        asked = asyncio.ensure_future(pair.asking.ask("wait", {}, 10))
        await settle()
        pair.asking.close()
        pair.answering.close()
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await asked
        with pytest.raises(ServerUnavailableError, match="has ended"):
            await pair.asking.ask("wait", {}, 10)

    run_async(test)


def test_other_messages_are_left_to_others() -> None:
    async def test() -> None:
        assert not Dialogue(lambda _kind, _body: None, {}).take("metrics", {})

    run_async(test)
