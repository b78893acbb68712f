"""Questions and answers over a control channel: either side asks, the other answers, in any order."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from repserve_server.errors import InternalError, RelayedError, RepServeError, ServerUnavailableError, Status

logger = logging.getLogger(__name__)

QUESTION, ANSWER = "question", "answer"

Body = dict[str, Any]
Answerer = Callable[[Body], Awaitable[Body]]


class Dialogue:
    """One side of it.

    Args:
        send: sends a control message of a kind and body; what cannot be sent is lost.
        answerers: what this side answers, by the name of the question. What they raise is raised again where the
            question was asked: a ``RepServeError`` as it is, anything else as an internal error, logged here.
    """

    def __init__(self, send: Callable[[str, Body], None], answerers: Mapping[str, Answerer]) -> None:
        self._send = send
        self._answerers = answerers
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Body]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._closed = False

    async def ask(self, question: str, body: Body, seconds: float) -> Body:
        """Ask, and return the answer.

        Raises:
            RepServeError: what the other side raised, or there is no answer within ``seconds``.
        """
        if self._closed:
            raise ServerUnavailableError("the process that would answer has ended; try again soon")
        number = next(self._numbers)
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._send(QUESTION, {"number": number, "question": question, "body": body})
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            raise ServerUnavailableError(f"{question!r} was not answered within {seconds:.0f} s") from error
        finally:
            del self._asked[number]

    def take(self, kind: str, body: Body) -> bool:
        """Take a control message if it belongs to the dialogue, and say whether it did."""
        if kind == QUESTION:
            task = asyncio.get_running_loop().create_task(self._answer(body))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif kind == ANSWER:
            future = self._asked.get(body["number"])
            if future is not None and not future.done():
                _complete(future, body)
        else:
            return False
        return True

    def close(self) -> None:
        """The other side is gone: what was asked fails, what it asked is not answered."""
        self._closed = True
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ServerUnavailableError("the process that would answer has ended; try again soon"))
        for task in self._answering:
            task.cancel()

    async def _answer(self, question: Body) -> None:
        try:
            outcome: Body = {"body": await self._answerers[question["question"]](question["body"])}
        except RepServeError as error:
            outcome = _describe(error)
        except Exception:
            logger.exception("the question %r could not be answered", question["question"])
            outcome = _describe(InternalError("internal error; the server's log says why"))
        self._send(ANSWER, {"number": question["number"], **outcome})


def _describe(error: RepServeError) -> Body:
    return {"status": error.status.name, "message": error.message, "retry_after": error.retry_after}


def _complete(future: asyncio.Future[Body], answer: Body) -> None:
    if "status" in answer:
        status = Status[answer["status"]]
        future.set_exception(RelayedError(status, answer["message"], retry_after=answer["retry_after"]))
    else:
        future.set_result(answer["body"])
